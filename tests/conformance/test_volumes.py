"""Volumes of storage plugins, from an unmodified pymesos scheduler to the plugin, with an agent that is killed.

Needs root.
"""

import os
import tempfile
import time
from pathlib import Path

import pytest
from cluster import Cluster, eventually
from pymesos import MesosSchedulerDriver
from stateful import FRAMEWORK, Stateful, operation, scalar, sum_of
from volume_plugins import CsiPlugin, DockerPlugin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

ISOLATION = "filesystem/linux,namespaces/pid,docker/volume"


def launch(name, command, source):
    """A plan: one task with a volume at `data`."""
    def plan(offer):
        if sum_of(offer, "cpus", lambda r: True) < 0.2:
            return None
        resources = [scalar("cpus", 0.2, False), scalar("mem", 32.0, False)]
        container = {"type": "MESOS", "volumes": [{"container_path": "data", "mode": "RW", "source": source}]}
        return [operation("LAUNCH", task_infos=[{
            "task_id": {"value": name}, "agent_id": offer["agent_id"], "name": name, "resources": resources,
            "command": {"value": command}, "container": container}])]
    return plan


@pytest.fixture(params=["docker", "csi"])
def plugin(request):
    if request.param == "csi":
        pytest.importorskip("grpc")
    # The address of a socket may not be long.
    with tempfile.TemporaryDirectory(prefix="dcos-plugin-") as folder:
        made = (CsiPlugin if request.param == "csi" else DockerPlugin)(Path(folder))
        yield made
        made.stop()


def test_tasks_share_a_volume_and_an_agents_death(plugin):
    isolation = ISOLATION + (",volume/csi" if isinstance(plugin, CsiPlugin) else "")
    flags = {"isolation": isolation, **plugin.flags()}
    with Cluster(agent_flags=flags, master_flags={"without": "marathon,metronome"}) as cluster:
        scheduler = Stateful()
        driver = MesosSchedulerDriver(scheduler, FRAMEWORK, cluster.master)
        driver.start()
        try:
            drill(cluster, scheduler, driver, plugin)
        finally:
            driver.stop()
            driver.join()


def test_a_loop_volume_is_full_when_it_is_and_stays(tmp_path):
    # With the isolation that an agent has by default as root.
    flags = {"loop_volumes_dir": tmp_path / "volumes"}
    options = {"parameter": [{"key": "size", "value": "8MB"}]}
    source = {"type": "DOCKER_VOLUME", "docker_volume": {"driver": "loop", "name": "v", "driver_options": options}}
    fill = "head -c 20000000 /dev/zero > data/fat && exit 1; rm data/fat; echo kept > data/file"
    with Cluster(agent_flags=flags, master_flags={"without": "marathon,metronome"}) as cluster:
        scheduler = Stateful()
        driver = MesosSchedulerDriver(scheduler, FRAMEWORK, cluster.master)
        driver.start()
        try:
            for name, command in (("fill", fill), ("look", "grep -q kept data/file")):
                scheduler.do(launch(name, command, source))
                driver.reviveOffers()
                scheduler.wait_for(name, "TASK_FINISHED")
        finally:
            driver.stop()
            driver.join()
        eventually("the end of the mount", lambda: not list((tmp_path / "volumes/mounts").iterdir()))


def drill(cluster, scheduler, driver, plugin):
    data, calls = plugin.data("db"), plugin.calls

    def start(name, command):
        scheduler.do(launch(name, command, plugin.source("db")))
        driver.reviveOffers()

    def restart():
        cluster.agent_program.kill()
        calls.release()
        cluster.start_agent()

    def checkpoints():
        folder = cluster.folder / "run/isolators"
        kinds = (folder / "docker/volume", folder / "volume/csi")
        return [path for kind in kinds if kind.exists() for path in kind.iterdir()]

    start("first", "echo one > data/one; until [ -e data/go ]; do sleep 0.05; done")
    eventually("the first task's file", lambda: (data / "one").exists())
    scheduler.wait_for("first", "TASK_RUNNING")
    if isinstance(plugin, CsiPlugin):
        plugin.check("db")
    restart()
    assert plugin.mounted()
    # One that comes now has the same mount; both end, and it goes.
    start("second", "cat data/one && touch data/go")
    for name in ("second", "first"):
        scheduler.wait_for(name, "TASK_FINISHED")
    eventually("the end of the mount", lambda: not plugin.mounted() and not checkpoints())
    assert (calls.count(plugin.MOUNT), calls.count(plugin.UNMOUNT)) == (1, 1), calls.names

    # Killed while the plugin mounts: the next agent unmounts what nobody will use.
    calls.hold(plugin.MOUNT)
    start("third", "true")
    eventually("the plugin's being asked", lambda: calls.count(plugin.MOUNT) == 2)
    assert plugin.mounted() and checkpoints()
    restart()
    deadline = time.monotonic() + 180
    eventually("the end of the mount", lambda: not plugin.mounted() and not checkpoints())
    while not {"TASK_FAILED", "TASK_LOST", "TASK_GONE", "TASK_DROPPED"} & set(scheduler.states.get("third", [])):
        assert time.monotonic() < deadline, scheduler.states
        time.sleep(0.05)
    assert (data / "one").read_text() == "one\n"
