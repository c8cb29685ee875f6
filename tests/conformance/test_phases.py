"""kill -9 of the agent in each phase of a container's life: nothing leaks, nothing runs twice.

A phase is entered for real and held there: a registry or a file server that does not go on, a network
plugin that waits. Then the agent is killed and another one started. Needs root.
"""

import json
import os
import re
from pathlib import Path

import pytest
from cluster import ROOT, Cluster, eventually
from faulty import Faulty
from test_runtimes import Run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# What waits in a folder while a file `hold` is there, says so by a file, and is otherwise no network at all.
PLUGIN = """#!/bin/sh
: > {folder}/$CNI_COMMAND
while [ -e {folder}/hold-$CNI_COMMAND ]; do sleep 0.02; done
[ "$CNI_COMMAND" = ADD ] && echo '{{"cniVersion":"0.3.1","ips":[{{"version":"4","address":"10.9.8.7/24"}}]}}'
exit 0
"""
PHASES = ("provisioning", "fetching", "preparing", "isolating", "running", "destroying")


class Node(Cluster):
    def __init__(self, folder: Path) -> None:
        self.faulty = Faulty()
        self.registry = f"127.0.0.1:{self.faulty.server_port}"
        self.plugin, networks, plugins = folder / "plugin", folder / "networks", folder / "plugins"
        for made in (self.plugin, networks, plugins):
            made.mkdir()
        (networks / "slow.conf").write_text(json.dumps({"name": "slow", "type": "slow"}))
        (plugins / "slow").write_text(PLUGIN.format(folder=self.plugin))
        (plugins / "slow").chmod(0o755)
        self.cgroups_root = f"mesos-phases-{os.getpid()}"
        super().__init__(agent_flags={
            "isolation": "filesystem/linux,namespaces/pid,cgroups/cpu,cgroups/mem,network/cni",
            "cgroups_root": self.cgroups_root, "image_providers": "docker",
            "docker_registry": f"http://{self.registry}", "network_cni_config_dir": networks,
            "network_cni_plugins_dir": plugins, "recovery_timeout": "1mins",
        })

    def __exit__(self, failed: object, *rest: object) -> None:
        self.faulty.go.set()
        self.release()
        super().__exit__(failed, *rest)

    def hold(self, command: str) -> None:
        (self.plugin / f"hold-{command}").touch()

    def release(self) -> None:
        for file in self.plugin.iterdir():
            file.unlink()

    def reached(self, command: str) -> None:
        eventually(f"the plugin's {command}", (self.plugin / command).exists)

    def restart(self) -> None:
        self.agent_program.kill()
        self.end_is_known()
        self.agent_program.start()

    def cgroups(self) -> list[Path]:
        return [folder for hierarchy in Path("/sys/fs/cgroup").iterdir()
                for folder in hierarchy.glob(f"{self.cgroups_root}/*") if folder.is_dir()]

    def leftovers(self) -> list:
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines()
                  if str(self.folder) in line]
        roots = list((self.folder / "agent/provisioner").glob("*"))
        records = list((self.folder / "run/containers").glob("*"))
        unpacking = list((self.folder / "agent/store").glob("unpacking/*"))
        return mounts + roots + records + unpacking + self.cgroups()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with Node(tmp_path_factory.mktemp("phases")) as node:
        yield node


@pytest.mark.parametrize("phase", PHASES)
def test_the_agent_dies_while(node, phase, tmp_path):
    starts = tmp_path / "starts"
    network = {"network_infos": [{"name": "slow"}]}
    more = {"command": {"value": f"echo $$ >> {starts}; exec sleep 1000"}}
    image = None
    if phase == "provisioning":
        image, node.faulty.go = f"{node.registry}/held", type(node.faulty.go)()
    elif phase == "fetching":
        node.faulty.go = type(node.faulty.go)()
        more["command"]["uris"] = [{"value": f"http://{node.registry}/files/held"}]
    elif phase in ("isolating", "destroying"):
        more["container"] = {"type": "MESOS", "mesos": {}, **network}
    elif phase == "preparing":
        # Nothing holds it: the agent is killed as soon as there is a record of the container.
        more["container"] = {"type": "MESOS", "mesos": {}}
    if phase == "isolating":
        node.hold("ADD")
    with Run(node, "", image=image, **more) as run:
        if phase in ("provisioning", "fetching"):
            assert node.faulty.waiting.wait(180)
            node.faulty.waiting.clear()
        elif phase == "isolating":
            node.reached("ADD")
        elif phase == "preparing":
            # Between the record on disk and the container's first process.
            eventually("a record", lambda: list((node.folder / "run/containers").glob("*")))
        else:
            run.runs()
            eventually("its start", starts.exists)
        if phase == "destroying":
            node.hold("DEL")
            run.driver.killTask({"value": "task-0"})
            node.reached("DEL")
        node.restart()
        node.faulty.go.set()
        node.release()
        eventually("the agent's return", lambda: any(one["active"] for one in node.agents()))
        if phase == "running":
            assert not run.job.done.is_set(), run.job.statuses
            run.driver.killTask({"value": "task-0"})
        elif phase == "preparing" and not run.job.done.is_set():
            # The agent may have been quicker than its death, and the task runs.
            run.driver.killTask({"value": "task-0"})
        end = run.end()
    expected = {"running": {"TASK_KILLED"}, "destroying": {"TASK_KILLED", "TASK_FAILED"}}
    failed = {"TASK_FAILED", "TASK_LOST", "TASK_KILLED", "TASK_GONE", "TASK_DROPPED"}
    assert end["state"] in expected.get(phase, failed), end
    count = len(starts.read_text().splitlines()) if starts.exists() else 0
    assert count == (1 if phase in ("running", "destroying") else min(count, 1)), f"started {count} times"
    eventually("nothing is left", lambda: not node.leftovers() or None)
    assert not processes(str(starts)), "a process lives on"


def processes(words: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in command:
                found.append(command)
    return found


def test_the_table_names_each_phase():
    table = (ROOT / "dcos-containerizer/docs/faults.md").read_text()
    named = set(re.findall(r"^\| `([a-z-]+)` \|", table, re.M))
    assert set(PHASES) <= named, set(PHASES) - named
