"""Faults that befall a container, each provoked for real: the reason and what the message says.

The table for people is `dcos-containerizer/docs/faults.md`; a test here checks that it names each case.
Needs root.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from cluster import ROOT, Cluster, eventually, get
from faulty import Faulty
from test_runtimes import Run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAUNCH, MEMORY, COMMAND = (
    "REASON_CONTAINER_LAUNCH_FAILED", "REASON_CONTAINER_LIMITATION_MEMORY", "REASON_COMMAND_EXECUTOR_FAILED")


class Node(Cluster):
    """A cluster whose images, files and networks come from faulty places; the store has 16 MB."""

    def __init__(self, folder: Path) -> None:
        self.faulty = Faulty()
        self.registry = f"127.0.0.1:{self.faulty.server_port}"
        self.store = folder / "store"
        networks, plugins = folder / "networks", folder / "plugins"
        for made in (networks, plugins):
            made.mkdir()
        (networks / "broken.conf").write_text(json.dumps({"name": "broken", "type": "broken"}))
        plugin = plugins / "broken"
        plugin.write_text('#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\n'
                          'echo \'{"cniVersion":"0.3.1","code":11,"msg":"no address is left"}\'; exit 1\n')
        plugin.chmod(0o755)
        self.cgroups_root = f"mesos-faults-{os.getpid()}"
        super().__init__(agent_flags={
            "isolation": "filesystem/linux,namespaces/pid,cgroups/cpu,cgroups/mem,linux/seccomp,network/cni",
            "cgroups_root": self.cgroups_root, "image_providers": "docker", "docker_store_dir": self.store,
            "docker_registry": f"http://{self.registry}", "docker_stall_timeout": "3secs",
            "fetcher_stall_timeout": "3secs", "image_max_layer_size": "64MB",
            "network_cni_config_dir": networks, "network_cni_plugins_dir": plugins,
        })

    def __exit__(self, failed: object, *rest: object) -> None:
        self.faulty.go.set()
        super().__exit__(failed, *rest)

    def cgroups(self) -> list[Path]:
        return [folder for hierarchy in Path("/sys/fs/cgroup").iterdir()
                for folder in hierarchy.glob(f"{self.cgroups_root}/*") if folder.is_dir()]

    def leftovers(self) -> list:
        """What a container leaves behind when somebody forgot something."""
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines()
                  if str(self.folder) in line]
        roots = list((self.folder / "agent/provisioner").glob("*"))
        records = list((self.folder / "run/containers").glob("*"))
        unpacking = list(self.store.glob("unpacking/*"))
        return mounts + roots + records + unpacking + self.cgroups()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    store = folder / "store"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", store], check=True)
    try:
        with Node(folder) as node:
            yield node
    finally:
        subprocess.run(["umount", "-l", store], check=True)


def uri(node: Node, name: str) -> dict:
    return {"uris": [{"value": f"http://{node.registry}/files/{name}", "extract": True}]}


def network(name: str) -> dict:
    return {"container": {"type": "MESOS", "mesos": {}, "network_infos": [{"name": name}]}}


def image(name: str):
    return lambda node: {"image": f"{node.registry}/{name}"}


def command(**fields):
    return lambda node: {"command": {"value": "true", **fields}}


def seccomp(name: str) -> dict:
    info = {"seccomp": {"profile_name": name}}
    return {"container": {"type": "MESOS", "mesos": {}, "linux_info": info}}


ABSENT = {"container": {"type": "MESOS", "mesos": {}, "volumes": [
    {"mode": "RO", "container_path": "data/", "host_path": "/no/such/folder"}]}}
ODD_LOG = {"environment": {"variables": [{"name": "CONTAINER_LOGGER_MAX_STDOUT_SIZE", "value": "lots"}]}}

# name: what the task is, the reason of its status, and what its message says.
LAUNCHES = {
    "image-absent": (image("absent"), LAUNCH, "there is no image .*absent"),
    "image-refused": (image("refused"), LAUNCH, "refuses .*credentials come from `--docker_config`"),
    "registry-gone": (lambda node: {"image": "127.0.0.1:1/app"}, LAUNCH, "pulling .*127.0.0.1:1"),
    "registry-dies": (image("cut"), LAUNCH, f"pulling .*cut"),
    "registry-stalls": (image("stalled"), LAUNCH, f"pulling .*stalled"),
    "image-corrupt": (image("corrupt"), LAUNCH, "the registry sent other bytes than sha256:"),
    "image-endless": (image("endless"), LAUNCH, "the manifest has more than the .* bytes"),
    "layer-of-other-digest": (image("other"), LAUNCH, "a layer of digest sha256:.* has sha256:"),
    "layer-no-archive": (image("garbage"), LAUNCH, "image .*garbage"),
    "manifest-malformed": (image("manifest"), LAUNCH, "manifest"),
    "image-for-other-machines": (image("machine"), LAUNCH, "machine"),
    "layer-explodes": (image("bomb"), LAUNCH, "larger than a layer may be"),
    "store-full": (image("big"), LAUNCH, "the disk of the image store is full.*--image_gc_config"),
    "nothing-to-run": (lambda node: {**image("good")(node), "command": {"shell": False}}, LAUNCH,
                       "neither the command nor its image says what to run"),
    "program-absent": (command(shell=False, value="/no/such/program", arguments=["x"]), LAUNCH,
                       "/no/such/program"),
    "user-absent": (command(user="nosuchuser"), LAUNCH, "no user `?nosuchuser"),
    "file-absent": (lambda node: {"command": {"value": "true", **uri(node, "absent")}}, LAUNCH, "fetch: .*404"),
    "file-server-dies": (lambda node: {"command": {"value": "true", **uri(node, "cut")}}, LAUNCH, "fetch: .*cut"),
    "archive-broken": (lambda node: {"command": {"value": "true", **uri(node, "broken.tar.gz")}}, LAUNCH,
                       "fetch: .*broken"),
    "network-unknown": (lambda node: network("nowhere"), LAUNCH, "nowhere"),
    "network-plugin-fails": (lambda node: network("broken"), LAUNCH, "no address is left"),
    "seccomp-profile-absent": (lambda node: seccomp("strict.json"), LAUNCH, "seccomp profile"),
    "volume-absent": (lambda node: ABSENT, LAUNCH, "/no/such/folder"),
    "log-settings-odd": (command(**ODD_LOG), LAUNCH, "CONTAINER_LOGGER_MAX_STDOUT_SIZE=lots"),
}
WHILE_RUNNING = {"memory-exceeded", "cgroups-vanish", "sandbox-vanishes", "init-killed", "launcher-killed"}


@pytest.mark.parametrize("fault", LAUNCHES)
def test_a_launch_that_fails_says_why(node, fault):
    make, reason, words = LAUNCHES[fault]
    with Run(node, "true", **({"image": None} | make(node))) as run:
        end = run.end()
    assert end["state"] == "TASK_FAILED", end
    print(end["message"])
    assert end["reason"] == reason, end
    assert re.search(words, end["message"], re.S), end["message"]
    eventually("nothing is left", lambda: not node.leftovers() or None)


def test_after_faults_what_is_sound_runs(node):
    with Run(node, "cat /bin/sh > /dev/null && echo sound", **image("good")(node)) as run:
        end = run.end()
        assert end["state"] == "TASK_FINISHED", end
    eventually("nothing is left", lambda: not node.leftovers() or None)


def statistics(node):
    return get(f"http://127.0.0.1:{node.agent_port}/monitor/statistics")


def members(node: Node) -> set[int]:
    """Processes in any of the node's cgroups."""
    found = set()
    for folder in node.cgroups():
        for procs in folder.rglob("cgroup.procs"):
            found |= {int(line) for line in procs.read_text().split() if line != "0"}
    return found


def test_memory_exceeded(node):
    with Run(node, "exec tail /dev/zero", image=None) as run:
        end = run.end()
    assert (end["state"], end["reason"]) == ("TASK_FAILED", MEMORY), end
    assert re.search("[Mm]emory", end["message"]), end
    eventually("nothing is left", lambda: not node.leftovers() or None)


def test_cgroups_vanish(node):
    """Somebody moves a task out of its cgroups and removes them: it can be seen and killed all the same."""
    with Run(node, "sleep 1000", image=None) as run:
        run.runs()
        for folder in sorted(node.cgroups()):
            top = folder.parent.parent
            for below in sorted([folder, *filter(Path.is_dir, folder.rglob("*"))], reverse=True):
                eventually("its end", lambda: emptied(below, top))
        assert not node.cgroups()
        assert isinstance(statistics(node), list)
        run.driver.killTask({"value": "task-0"})
        assert run.end()["state"] == "TASK_KILLED"
    eventually("nothing is left", lambda: not node.leftovers() or None)


def emptied(folder: Path, top: Path) -> bool:
    """Removes a cgroup, once what is in it was moved: some of that may end, or just begin."""
    for pid in (folder / "cgroup.procs").read_text().split():
        (top / "cgroup.procs").write_text(pid)
    folder.rmdir()
    return True


def test_sandbox_vanishes(node):
    with Run(node, "sleep 1000", image=None) as run:
        sandbox = run.runs().resolve()
        subprocess.run(["rm", "-rf", sandbox], check=True)
        run.driver.killTask({"value": "task-0"})
        assert run.end()["state"] == "TASK_KILLED"
    eventually("nothing is left", lambda: not node.leftovers() or None)


def test_init_killed(node):
    with Run(node, "sleep 1000", image=None) as run:
        run.runs()
        os.kill(min(members(node)), signal.SIGKILL)
        end = run.end()
    assert end["state"] == "TASK_FAILED"
    assert "signal" in end["message"], end
    eventually("nothing is left", lambda: not node.leftovers() or None)


def test_launcher_killed(node):
    with Run(node, "sleep 1000", image=None) as run:
        run.runs()
        mine = members(node)
        (launcher,) = launchers(node)
        os.kill(launcher, signal.SIGKILL)
        end = run.end()
    assert end["state"] in ("TASK_FAILED", "TASK_LOST"), end
    assert "launcher" in end["message"], end
    eventually("nothing is left", lambda: not node.leftovers() or None)
    eventually("the end of its processes", lambda: not any(map(lives, mine)) or None)
    # And another launcher has taken its place.
    with Run(node, "true", image=None) as run:
        assert run.end()["state"] == "TASK_FINISHED"


def lives(pid: int) -> bool:
    """Whether it is there, and not merely waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def launchers(node: Node) -> list[int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # One that ends meanwhile is not to be found.
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                # `dcos-launcher`, or the agent itself as one.
                if b"--daemon" in words and str(node.folder / "run/launcher.sock").encode() in words:
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    found[int(entry.name)] = parent
    # Inits of containers are clones of it.
    return [pid for pid, parent in found.items() if parent not in found]


def test_the_table_names_each_case():
    table = (ROOT / "dcos-containerizer/docs/faults.md").read_text()
    named = set(re.findall(r"^\| `([a-z-]+)` \|", table, re.M))
    assert set(LAUNCHES) | WHILE_RUNNING <= named, (set(LAUNCHES) | WHILE_RUNNING) - named
