"""Originals and ours in one cluster, with credentials: agents that restart and grow, a master that is replaced.
A task lives through it all."""

import pytest
from cluster import PORTS, eventually, get
from original import Original, needed
from pymesos import MesosSchedulerDriver
from test_authentication import SECRETS, Guarded
from test_pymesos import Tasks

GROWN = {"resources": f"cpus:20;mem:20480;disk:10000;{PORTS}", "reconfiguration_policy": "additive"}


@pytest.fixture(params=[
    pytest.param(("ours", "ours"), id="ours"),
    pytest.param(("ours", "original"), id="original agent", marks=needed),
    pytest.param(("original", "ours"), id="original master", marks=needed),
])
def cluster(request):
    cluster = Guarded(*request.param)
    if not isinstance(cluster.master_program, Original):
        # An original agent that was told of no election looks for a master when it misses pings.
        cluster.master_program.flags |= {"agent_ping_timeout": "3secs", "max_agent_ping_timeouts": "4"}
    with cluster:
        yield cluster


@pytest.fixture
def task(cluster):
    """A framework with a task that runs."""
    scheduler = Tasks(1, "sleep 100000")
    driver = MesosSchedulerDriver(
        scheduler, {"user": "root", "name": "mixed", "principal": "scheduler", "checkpoint": True, "failover_timeout": 600.0},
        cluster.master, implicit_acknowledgements=False, principal="scheduler", secret=SECRETS["scheduler"],
    )
    driver.start()
    try:
        eventually("it runs", lambda: states(scheduler)[-1:] == ["TASK_RUNNING"])
        yield scheduler
    finally:
        driver.stop()
        driver.join()


def states(scheduler: Tasks) -> list[str]:
    return scheduler.updates["task-0"]


def restarted(cluster: Guarded, **flags) -> dict:
    """The agent, killed and started again."""
    (before,) = cluster.agents()
    program = cluster.agent_program
    program.kill()
    if isinstance(program, Original):
        program.environment |= {f"MESOS_{name.upper()}": value for name, value in flags.items()}
    else:
        program.flags |= flags
    program.start()

    def back() -> dict | None:
        return next((agent for agent in cluster.agents()
                     if agent["active"] and agent.get("reregistered_time", 0) > before.get("reregistered_time", 0)), None)

    after = eventually("the agent's return", back)
    assert after["id"] == before["id"]
    return after


def runs(cluster: Guarded, task: Tasks) -> None:
    """It does, and nobody was told otherwise."""
    def known() -> bool:
        (framework,) = get(f"http://{cluster.master}/state")["frameworks"]
        return framework["active"] and [one["state"] for one in framework["tasks"]] == ["TASK_RUNNING"]

    eventually("it runs on", known)
    assert set(states(task)) <= {"TASK_STARTING", "TASK_RUNNING"} and not task.errors, (states(task), task.errors)


def test_an_agent_restarts(cluster, task):
    restarted(cluster)
    runs(cluster, task)


def test_an_agent_grows(cluster, task):
    before = cluster.agents()[0]["resources"]["cpus"]
    after = restarted(cluster, **GROWN)
    assert after["resources"]["cpus"] == 20 > before
    runs(cluster, task)


def test_a_master_is_replaced(cluster, task):
    if isinstance(cluster.master_program, Original):
        pytest.skip("the original that can be had here keeps its registry in memory")
    cluster.master_program.kill()
    cluster.master_program.start()
    eventually("the agent's return", lambda: [agent for agent in cluster.agents() if agent["active"]])
    runs(cluster, task)
