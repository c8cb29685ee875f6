"""Originals and ours that know nothing of each other but a path of ZooKeeper: the scheduler driver and the agent of
Mesos 1.11, which find our leader and follow a failover, and our agent, which finds an original's master."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cluster import PORTS, Program, eventually, free_port, get
from original import PROGRAMS, Original, needed, remove
from test_zookeeper import JAR, Ensemble, follow_the_leader

pytestmark = [needed, pytest.mark.skipif(not JAR.exists(), reason="Debian's package zookeeper is not installed")]

PYTHON2 = os.environ.get("PYTHON2")
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def ensemble():
    """Two of our masters without an agent of ours."""
    with Ensemble(agents=0) as ensemble:
        yield ensemble


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    remove(tmp_path)


def fail_over(ensemble: Ensemble) -> int:
    """Kills the leader, and starts it again once the other one leads; returns the new leader's port."""
    old = eventually("a leader", lambda: ensemble.leader()["port"])
    master = ensemble.masters[ensemble.ports.index(old)]
    master.kill()
    new = eventually("another leader", lambda: (port := ensemble.leader()["port"]) not in (None, old) and port)
    master.start()
    return new


def our_agent(folder: Path, master: str) -> Program:
    agent = Program("dcos-agent", {
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": free_port(), "master": master,
        "work_dir": folder / "agent", "runtime_dir": folder / "run", "launcher": "posix",
        "isolation": "posix/cpu,posix/mem", "resources": f"cpus:4;mem:1024;disk:1000;{PORTS}",
    }, folder / "agent.log", {})
    agent.start()
    return agent


def agents(port: int) -> list[dict]:
    return [agent for agent in get(f"http://127.0.0.1:{port}/slaves")["slaves"] if agent["active"]]


class Driver:
    """`libmesos_driver.py` and what it was told."""

    def __init__(self, ensemble: Ensemble):
        self.process = subprocess.Popen(
            [PYTHON2, str(HERE / "libmesos_driver.py"), f"zk://{ensemble.servers}/mesos"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
            env={**os.environ, "LD_LIBRARY_PATH": str(PROGRAMS), "LIBPROCESS_IP": "127.0.0.1",
                 "MESOS_REF_MODULE": f"{PROGRAMS}/_scheduler.so", "GLOG_minloglevel": "1"},
        )
        self.told: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.told.append(line.strip())

    def hears(self, wanted: str) -> None:
        eventually(f"the driver is told {wanted!r}, not {self.told}", lambda: wanted in self.told)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        print("the driver was told", self.told)


libmesos = pytest.mark.skipif(
    PYTHON2 is None, reason="skipped: PYTHON2 names no Python 2.7 with mesos.interface, for libmesos' driver"
)


@libmesos
def test_a_libmesos_driver_finds_our_leader_and_the_next_one(ensemble, folder):
    agent = our_agent(folder, ensemble.url)
    try:
        with Driver(ensemble) as driver:
            told = driver.told
            driver.hears("registered")
            driver.hears("one TASK_RUNNING")
            fail_over(ensemble)
            driver.hears("disconnected")
            # As a new master of the original does, ours says that it is registered, and not that it still is.
            registered = ("registered", "reregistered")
            eventually("it is registered again", lambda: sum(line in registered for line in told) == 2)
            driver.process.stdin.write("launch two\n")
            driver.hears("two TASK_RUNNING")
            one = [line for line in told if line.startswith("one ")]
            assert one == ["one TASK_STARTING", "one TASK_RUNNING"], told
    finally:
        agent.stop(signal.SIGUSR1)


@libmesos
@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: breaking a connection of others takes root")
def test_a_libmesos_driver_is_told_that_its_connection_broke(ensemble):
    """It would wait for offers for ever, until its tasks were killed."""
    port = eventually("a leader", lambda: ensemble.leader()["port"])

    def connected() -> list[str]:
        frameworks = get(f"http://127.0.0.1:{port}/frameworks")["frameworks"]
        return [one["pid"] for one in frameworks if one["name"] == "libmesos" and one["connected"]]

    with Driver(ensemble) as driver:
        driver.hears("registered")
        at = connected()[0].rpartition(":")[2]
        broken = subprocess.run(
            ["ss", "-K", "-t", "state", "established", "dst", "127.0.0.1", "dport", "=", at],
            capture_output=True, text=True, check=False,
        )
        if at not in broken.stdout:
            pytest.skip(f"skipped: this kernel breaks no connections: {broken.stdout}{broken.stderr}")
        driver.hears("error Framework disconnected")
        eventually("the master waits for another one", lambda: not connected())


@pytest.mark.skipif(
    PROGRAMS is None or b"zk://" not in (PROGRAMS / "mesos-local").read_bytes(),
    reason="skipped: the mesos-local in MESOS_REFERENCE takes no zk:// for MESOS_REF_MASTER",
)
def test_an_original_agent_follows_our_leaders(ensemble, folder):
    agent = Original(folder / "agent", free_port(), of=f"zk://{ensemble.servers}/mesos").start()
    try:
        leader = eventually("a leader", lambda: ensemble.leader()["port"])
        eventually("the original's agent registered with it", lambda: agents(leader))
        follow_the_leader(ensemble)
    finally:
        agent.kill()
        print(agent.log.read_text(errors="replace")[-3000:], file=sys.stderr)


def test_our_agent_finds_an_original_master_in_zookeeper(ensemble, folder):
    # The original that can be had here does not stand for election itself, so its candidate's node, which is what an
    # agent reads, is made for it.
    master = Original(folder / "master", free_port()).start()
    state = get(f"http://{master.address}/state")
    info = {
        "id": state["id"], "ip": 16777343, "port": master.port, "pid": f"master@{master.address}",
        "hostname": "127.0.0.1", "version": "1.11.0",
        "address": {"hostname": "127.0.0.1", "ip": "127.0.0.1", "port": master.port},
    }
    ensemble.zookeeper.create(
        "/original/json.info_", json.dumps(info).encode(), ephemeral=True, sequence=True, makepath=True
    )
    agent = our_agent(folder, f"zk://{ensemble.servers}/original")
    try:
        eventually("our agent registered with the original", lambda: agents(master.port))
    finally:
        agent.stop(signal.SIGUSR1)
        master.kill()
        print((folder / "agent.log").read_text(errors="replace")[-3000:], file=sys.stderr)
