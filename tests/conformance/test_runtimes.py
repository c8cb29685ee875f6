"""Containers that `crun` and `runc` make, driven by an unmodified pymesos. Needs root and both runtimes.

The agent's launcher, isolators, images and logs are those of every other container; only who makes
the container is another.
"""

import json
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import oci_schema
import pytest
from cluster import Cluster, eventually
from images import programs
from pymesos import MesosSchedulerDriver
from test_pymesos import Tasks

RUNTIMES = [name for name in ("crun", "runc") if shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin")]
ISOLATION = ("filesystem/linux,namespaces/pid,namespaces/ipc,cgroups/cpu,cgroups/mem,"
             "cgroups/devices,linux/capabilities,linux/seccomp,linux/nnp")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not RUNTIMES, reason="needs root, and crun or runc")


class Node(Cluster):
    """A cluster whose agent has an image `tools` and makes containers by `runtime`."""

    def __init__(self, runtime: str, images: Path) -> None:
        with tarfile.open(images / "tools.tar", "w") as tar:
            programs(tar, "sh", "cat", "sleep", "id", "grep", "head", "tail")
        super().__init__(agent_flags={
            "isolation": ISOLATION, "image_providers": "docker", "docker_registry": images,
            "cgroups_root": f"mesos-{os.getpid()}-{runtime}",
            "oci_runtimes": ",".join(RUNTIMES), "oci_runtime": runtime,
        })
        self.runtime = runtime
        self.cgroups_root = f"mesos-{os.getpid()}-{runtime}"

    def listed(self) -> list[dict]:
        """What the runtime knows of containers."""
        root = self.folder / "run/oci/state" / self.runtime
        answer = subprocess.run([self.runtime, "--root", root, "list", "--format", "json"],
                                capture_output=True, text=True, check=True,
                                env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
        return json.loads(answer.stdout) or []

    def bundles(self) -> list[Path]:
        folder = self.folder / "run/oci/bundles"
        return sorted(folder.iterdir()) if folder.exists() else []

    def cgroups(self) -> list[Path]:
        return [folder for hierarchy in Path("/sys/fs/cgroup").iterdir()
                for folder in hierarchy.glob(f"{self.cgroups_root}/*") if folder.is_dir()]

    def leftovers(self) -> list:
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines()
                  if str(self.folder) in line]
        return self.listed() + self.bundles() + self.cgroups() + mounts


@pytest.fixture(scope="module", params=RUNTIMES)
def node(request, tmp_path_factory):
    with Node(request.param, tmp_path_factory.mktemp("images")) as node:
        yield node
        eventually("nothing is left", lambda: not node.leftovers() or None)


@pytest.fixture(autouse=True)
def alone(node):
    """Tests count what there is: nothing of the one before is."""
    eventually("nothing is left", lambda: not node.leftovers() or None)


class Job(Tasks):
    """One task; `running` is set once it runs."""

    def __init__(self, script: str, image: str | None = "tools", **more) -> None:
        super().__init__(1, script)
        self.image, self.more, self.running = image, more, threading.Event()
        self.statuses: list[dict] = []

    def task(self, task_id, agent_id):
        task = super().task(task_id, agent_id) | self.more
        if self.image:
            task["container"] = {"type": "MESOS", "mesos": {
                "image": {"type": "DOCKER", "docker": {"name": self.image}}}}
        return task

    def statusUpdate(self, driver, update):
        self.statuses.append(update)
        if update["state"] == "TASK_RUNNING":
            self.running.set()
        super().statusUpdate(driver, update)

    @property
    def container(self) -> str:
        return self.statuses[-1]["container_status"]["container_id"]["value"]


class Run:
    """A job on a node, from its launch to its end."""

    def __init__(self, node: Node, script: str, **more) -> None:
        self.node, self.job = node, Job(script, **more)
        framework = {"user": "root", "name": "runtimes", "checkpoint": True, "failover_timeout": 60.0}
        self.driver = MesosSchedulerDriver(
            self.job, framework, node.master, implicit_acknowledgements=False)

    def __enter__(self) -> "Run":
        self.driver.start()
        return self

    def __exit__(self, *_) -> None:
        self.driver.stop()
        self.driver.join()

    def end(self) -> dict:
        assert self.job.done.wait(180), self.job.statuses
        (end,) = self.job.terminal["task-0"]
        return end

    def runs(self) -> Path:
        """Its sandbox, once it runs."""
        eventually("it runs", lambda: self.job.running.is_set() or self.job.done.is_set() or None)
        assert self.job.running.is_set(), self.job.statuses
        return self.sandbox()

    def sandbox(self) -> Path:
        # Each run of a test has a framework of its own.
        found = (self.node.folder / "agent/slaves").glob(
            f"*/frameworks/{self.job.registered_as}/executors/task-0/runs/latest")
        return next(iter(found))

    def process(self) -> int:
        """Its first process on the host."""
        known = {one["id"]: one for one in self.node.listed()}
        (container,) = known.values()
        assert container["status"] == "running"
        return container["pid"]


def test_a_task_prints_and_ends_with_its_status(node):
    with Run(node, "echo out; echo err >&2; exit 3") as run:
        end = run.end()
        sandbox = run.sandbox()
    assert end["state"] == "TASK_FAILED"
    assert "exited with status 3" in end["message"]
    assert (sandbox / "stdout").read_text() == "out\n"
    assert (sandbox / "stderr").read_text() == "err\n"


def test_a_task_that_kills_itself_ended_by_a_signal(node):
    # Nothing but its own pid namespace protects process 1 of it.
    with Run(node, "sh -c 'kill -9 $$'; exit $?") as run:
        end = run.end()
    assert "exited with status 137" in end["message"], end


def test_what_runs_is_confined_as_its_spec_says(node):
    with Run(node, "echo here; sleep 1000") as run:
        sandbox = run.runs()
        eventually("its output", lambda: (sandbox / "stdout").read_text() == "here\n" or None)
        (bundle,) = node.bundles()
        spec = json.loads((bundle / "config.json").read_text())
        oci_schema.check(spec)
        assert spec["linux"]["resources"]["memory"]["limit"] == 32 << 20
        assert bundle.stat().st_mode & 0o777 == 0o700

        pid = run.process()
        status = dict(line.split(":\t", 1) for line in
                      Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert status["Seccomp"] == "2"
        assert status["NoNewPrivs"] == "1"
        assert status["NSpid"].split()[-1] == "1"
        cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        assert f"memory:/{node.cgroups_root}/{run.job.container}" in cgroups, cgroups
        assert (Path(f"/proc/{pid}/root/etc")).exists()
        assert not Path(f"/proc/{pid}/root/usr/bin/python3").exists(), "it sees the host's files"
        known = eventually("statistics", lambda: statistics(node))
        assert known["mem_limit_bytes"] == 32 << 20
        run.driver.killTask({"value": "task-0"})
        assert run.end()["state"] == "TASK_KILLED"
    eventually("nothing is left", lambda: not node.leftovers() or None)


def statistics(node):
    from cluster import get

    found = get(f"http://127.0.0.1:{node.agent_port}/monitor/statistics")
    return found[0]["statistics"] if found else None


def test_signals_reach_the_command(node):
    script = "trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with Run(node, script) as run:
        sandbox = run.runs()
        eventually("its trap", lambda: "ready" in (sandbox / "stdout").read_text() or None)
        run.driver.killTask({"value": "task-0"})
        assert run.end()["state"] == "TASK_KILLED"
    assert (sandbox / "stdout").read_text() == "ready\nterm\n"


def test_memory_beyond_the_limit_is_the_reason(node):
    with Run(node, "tail /dev/zero") as run:
        end = run.end()
    assert end["state"] == "TASK_FAILED"
    assert end["reason"] == "REASON_CONTAINER_LIMITATION_MEMORY", end


def test_a_container_outlives_its_agent(node, tmp_path):
    script = "echo once; until [ -e go ]; do sleep 0.05; done; exit 5"
    with Run(node, script) as run:
        sandbox = run.runs()
        pid = run.process()
        node.agent_program.kill()
        assert Path(f"/proc/{pid}").exists()
        node.start_agent()
        assert run.process() == pid
        eventually("statistics", lambda: statistics(node))
        # And its end is learnt if it happens while nobody looks.
        node.agent_program.kill()
        (sandbox / "go").touch()
        eventually("its end", lambda: not Path(f"/proc/{pid}").exists() or None)
        node.agent_program.start()
        end = run.end()
        assert "exited with status 5" in end["message"], end
    assert (sandbox / "stdout").read_text() == "once\n"
    eventually("nothing is left", lambda: not node.leftovers() or None)


def test_a_program_that_is_not_there_is_told(node):
    command = {"shell": False, "value": "/no/such/program", "arguments": ["x"]}
    with Run(node, "", command=command) as run:
        end = run.end()
    assert end["state"] == "TASK_FAILED"
    assert "/no/such/program" in end["message"], end
    eventually("nothing is left", lambda: not node.leftovers() or None)


def test_a_task_without_an_image_sees_the_hosts_files(node):
    hosts = Path("/etc/hostname").read_text()
    ptmx = os.lstat("/dev/ptmx")[:7]
    with Run(node, "cat /etc/hostname; ls /dev | wc -l; pwd", image=None) as run:
        end = run.end()
        sandbox = run.sandbox()
    assert end["state"] == "TASK_FINISHED", end
    lines = (sandbox / "stdout").read_text().splitlines()
    assert lines[0] == hosts.strip()
    assert Path(lines[2]).resolve() == sandbox.resolve()
    # But for its times: other tests use terminals meanwhile.
    assert os.lstat("/dev/ptmx")[:7] == ptmx, "the host's devices were changed"


def label(value: str) -> dict:
    return {"labels": {"labels": [{"key": "oci_runtime", "value": value}]}}


def test_a_task_chooses_among_what_the_agent_offers(node):
    with Run(node, "sleep 1000", **label("native")) as run:
        run.runs()
        assert not node.bundles() and not node.listed()
        run.driver.killTask({"value": "task-0"})
        run.end()
    with Run(node, "true", **label("kata")) as run:
        end = run.end()
    assert end["state"] == "TASK_FAILED"
    assert "no OCI runtime `kata`" in end["message"] and "native" in end["message"], end


def test_a_terminal_is_refused_with_what_to_do(node):
    container = {"type": "MESOS", "tty_info": {}}
    with Run(node, "true", image=None, container=container) as run:
        end = run.end()
    assert "`oci_runtime` with `native`" in end["message"], end
