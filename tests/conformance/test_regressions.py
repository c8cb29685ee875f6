"""Issues that Mesos 1.11 left open, tried on whole clusters; the table is `dcos-sched/docs/mesos-regressions.md`.

Needs root.
"""

import os
import threading
from pathlib import Path

import pytest
from cluster import Cluster, eventually, get
from pymesos import MesosSchedulerDriver, Scheduler

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and other users need root")


def scalars():
    return [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (
        ("cpus", 0.1), ("mem", 32.0))]


class Once(Scheduler):
    """Accepts one offer with operations, and waits for what becomes of a task."""

    def __init__(self, operations) -> None:
        self.operations, self.lock, self.states = operations, threading.Condition(), []

    def resourceOffers(self, driver, offers):
        for offer in offers:
            with self.lock:
                operations, self.operations = self.operations, None
            made = operations(offer) if operations else []
            driver.acceptOffers([offer["id"]], made, {"refuse_seconds": 600})

    def statusUpdate(self, driver, update):
        with self.lock:
            self.states.append(update["state"])
            self.lock.notify_all()

    def run(self, cluster: Cluster, until: set[str]) -> str:
        driver = MesosSchedulerDriver(self, {"user": "root", "name": "regressions", "checkpoint": True}, cluster.master)
        driver.start()
        try:
            with self.lock:
                ended = self.lock.wait_for(lambda: self.states and self.states[-1] in until, 180)
                assert ended, self.states
                return self.states[-1]
        finally:
            driver.stop()
            driver.join()


@pytest.fixture(scope="module")
def cluster():
    flags = {"isolation": "filesystem/linux,namespaces/pid,volume/host_path"}
    with Cluster(flags, {"only": "master"}) as cluster:
        yield cluster


def mounts(folder: Path) -> list[str]:
    """What is mounted below a folder, or from there, in any process's view of this host."""
    found = set()
    for seen in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found |= {line.split(" ", 3)[3] for line in seen.read_text().splitlines() if str(folder) in line}
        except OSError:
            continue
    return sorted(found)


def test_mesos_9355_a_wrong_uri_leaves_no_volume_mounted(cluster):
    source = cluster.folder / "data"
    source.mkdir()
    before = mounts(cluster.folder)

    def operations(offer):
        return [{"type": "LAUNCH", "launch": {"task_infos": [{
            "task_id": {"value": "t"}, "agent_id": offer["agent_id"], "name": "t", "resources": scalars(),
            "command": {"value": "true", "uris": [{"value": "http://127.0.0.1:1/nothing-there"}]},
            "container": {"type": "MESOS", "volumes": [{
                "mode": "RW", "container_path": "data", "source": {
                    "type": "HOST_PATH", "host_path": {"path": str(source)}}}]}}]}}]

    assert Once(operations).run(cluster, {"TASK_FAILED", "TASK_FINISHED"}) == "TASK_FAILED"
    agent = f"http://127.0.0.1:{cluster.agent_port}"
    eventually("the end of its container", lambda: get(f"{agent}/containers") == [] or None)
    # A process that ends may still have seen them.
    eventually("the end of its mounts", lambda: mounts(cluster.folder) == before)
    assert source.is_dir()


def test_mesos_9536_a_nested_container_of_another_user_writes_its_sandbox(cluster):
    def operations(offer):
        task = {
            "task_id": {"value": "nested"}, "agent_id": offer["agent_id"], "name": "nested", "resources": scalars(),
            "command": {"user": "nobody", "value": 'test "$(id -un)" = nobody && echo mine > file && test -O file'}}
        executor = {
            "type": "DEFAULT", "executor_id": {"value": "pod"}, "framework_id": offer["framework_id"],
            "resources": [*scalars(), {"name": "disk", "type": "SCALAR", "scalar": {"value": 32.0}}]}
        return [{"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": [task]}}}]

    ends = {"TASK_FAILED", "TASK_FINISHED", "TASK_ERROR"}
    assert Once(operations).run(cluster, ends) == "TASK_FINISHED"
