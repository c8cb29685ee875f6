"""Operators take agents out of service under an unmodified pymesos scheduler."""

import json
import signal
import subprocess
import threading
from typing import Any

import pytest
from cluster import PORTS, Cluster, binary, eventually, get, launchers
from pymesos import MesosSchedulerDriver
from test_pymesos import Tasks

POSIX = {"launcher": "posix", "isolation": "posix/cpu,posix/mem"}


class Sleepers(Tasks):
    """Tasks that sleep until somebody ends them; knows when all run, and how each ended."""

    def __init__(self, count: int, command: str = "sleep 600") -> None:
        super().__init__(count, command)
        self.running = threading.Event()

    def statusUpdate(self, driver, update):
        super().statusUpdate(driver, update)
        if update["state"] == "TASK_GONE_BY_OPERATOR":
            self.terminal[update["task_id"]["value"]].append(update)
        if sum("TASK_RUNNING" in states for states in self.updates.values()) == self.count:
            self.running.set()
        if len(self.terminal) == self.count:
            self.done.set()


@pytest.fixture
def cluster():
    with Cluster(dict(POSIX), {"without": "marathon,metronome"}) as cluster:
        yield cluster


def dcos(cluster: Cluster, *words: str) -> Any:
    """What our command line says, as JSON if it says anything."""
    command = [binary("dcos"), "--master", f"http://{cluster.master}", *words]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout
    return json.loads(said) if said.strip().startswith(("{", "[")) else said


def run(cluster: Cluster, scheduler: Tasks, *capabilities: str) -> MesosSchedulerDriver:
    framework = {"user": "root", "name": "drained", "checkpoint": True, "failover_timeout": 60.0,
                 "capabilities": [{"type": capability} for capability in capabilities]}
    driver = MesosSchedulerDriver(scheduler, framework, cluster.master, implicit_acknowledgements=False)
    driver.start()
    return driver


def drain_state(cluster: Cluster) -> str:
    return cluster.agents()[0].get("drain_info", {}).get("state", "")


@pytest.mark.parametrize("victims", [[], ["master"], ["agent"], ["master", "agent"]], ids="+".join)
def test_drained_and_back(cluster, victims):
    scheduler = Sleepers(10)
    driver = run(cluster, scheduler)
    try:
        assert scheduler.running.wait(180)
        agent = cluster.agents()[0]["id"]
        dcos(cluster, "node", "drain", agent, "--max-grace-period", "1s")
        for victim in victims:
            program = cluster.master_program if victim == "master" else cluster.agent_program
            program.kill()
            program.start()
        assert scheduler.done.wait(180), scheduler.terminal
        for task, ends in scheduler.terminal.items():
            assert {(end["state"], end.get("reason")) for end in ends} == {("TASK_KILLED", "REASON_AGENT_DRAINING")}, task
        eventually("the end of the drain", lambda: drain_state(cluster) == "DRAINED")
        known = dcos(cluster, "--json", "node", "list")
        assert [(one["id"], one["active"], one["deactivated"]) for one in known] == [(agent, False, True)]
    finally:
        driver.stop()
    dcos(cluster, "node", "reactivate", agent)
    again = Tasks(3, "true")
    driver = run(cluster, again)
    try:
        assert again.done.wait(180), again.terminal
        assert {end["state"] for ends in again.terminal.values() for end in ends} == {"TASK_FINISHED"}
    finally:
        driver.stop()


def test_decommissioned(cluster):
    scheduler = Sleepers(3)
    driver = run(cluster, scheduler, "PARTITION_AWARE")
    try:
        assert scheduler.running.wait(180)
        agent = cluster.agents()[0]["id"]
        dcos(cluster, "node", "drain", agent, "--decommission")
        assert scheduler.done.wait(180), scheduler.terminal
        ends = {(end["state"], end.get("reason")) for ends in scheduler.terminal.values() for end in ends}
        assert ends == {("TASK_GONE_BY_OPERATOR", "REASON_AGENT_DRAINING")}
        eventually("the agent's end", lambda: not cluster.agents())
        # It is told to end, and once it is back it is another agent.
        eventually("the end of its process", lambda: cluster.agent_program.process.poll() is not None)
        # Nothing of it is left that a launcher would be needed for.
        eventually("the end of its launcher", lambda: not launchers(cluster.folder))
        cluster.agent_program.start()
        eventually("another agent", lambda: cluster.agents() and cluster.agents()[0]["id"] != agent)
    finally:
        driver.stop()


def test_reconfigured(cluster):
    """With `additive` an agent may grow and keep its tasks; with `equal` it may not."""
    scheduler = Sleepers(2)
    driver = run(cluster, scheduler)
    program = cluster.agent_program
    try:
        assert scheduler.running.wait(180)
        before = cluster.agents()[0]
        program.kill()
        program.flags["resources"] = f"cpus:32;mem:16384;disk:10000;{PORTS}"
        program.start()
        eventually("the agent's refusal", lambda: program.process.poll() not in (None, 0))
        program.flags["reconfiguration_policy"] = "additive"
        program.flags["attributes"] = "rack:r1"
        program.start()
        eventually("the larger agent", lambda: cluster.agents()[0]["resources"]["cpus"] == 32)
        after = cluster.agents()[0]
        assert after["id"] == before["id"]
        assert after["attributes"] == {"rack": "r1"}
        tasks = get(f"http://{cluster.master}/tasks")["tasks"]
        assert [task["state"] for task in tasks] == ["TASK_RUNNING"] * 2
        program.kill()
        program.flags["resources"] = f"cpus:8;mem:16384;disk:10000;{PORTS}"
        program.start()
        eventually("the agent's refusal", lambda: program.process.poll() not in (None, 0))
        program.flags["resources"] = f"cpus:32;mem:16384;disk:10000;{PORTS}"
        program.start()
    finally:
        driver.stop()


def test_quota_and_maintenance_on_the_command_line(cluster):
    dcos(cluster, "quota", "create", "dev", "--cpu", "4", "--mem", "1024", "--guarantee")
    dcos(cluster, "quota", "update", "dev", "--cpu", "8")
    quota = dcos(cluster, "--json", "quota", "get", "dev")
    assert (quota["guarantee"], quota["limit"]) == ({"cpus": 4.0, "mem": 1024.0}, {"cpus": 8.0, "mem": 1024.0})
    assert "dev" in dcos(cluster, "quota", "list")
    cluster.master_program.stop(signal.SIGKILL)
    cluster.master_program.start()
    eventually("the agent's return", cluster.agents)
    assert dcos(cluster, "--json", "quota", "get", "dev") == quota
    dcos(cluster, "quota", "delete", "dev")
    assert dcos(cluster, "--json", "quota", "list") == []

    machine = "127.0.0.1/127.0.0.1"
    dcos(cluster, "node", "maintenance", "add", machine, "--start-in", "1h", "--duration", "2h")
    assert machine in dcos(cluster, "node", "maintenance", "schedule")
    dcos(cluster, "node", "maintenance", "down", machine)
    assert "DOWN" in dcos(cluster, "node", "maintenance", "status")
    eventually("the agent's end", lambda: cluster.agent_program.process.poll() is not None)
    cluster.agent_program.start()
    eventually("its refusal", lambda: cluster.agent_program.process.poll() is not None)
    dcos(cluster, "node", "maintenance", "up", machine)
    cluster.agent_program.start()
    eventually("an agent", cluster.agents)
