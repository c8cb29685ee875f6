"""An unmodified pymesos scheduler (API v1 over HTTP, JSON) on our master and agent."""

import collections
import threading

from cluster import eventually
from pymesos import MesosSchedulerDriver, Scheduler

TASK = {"cpus": 0.1, "mem": 32.0}


class Tasks(Scheduler):
    """Launches `count` tasks of `command` and acknowledges each update itself."""

    def __init__(self, count: int, command: str) -> None:
        self.waiting = [f"task-{number}" for number in range(count)]
        self.command = command
        self.count = count
        self.updates: dict[str, list[str]] = collections.defaultdict(list)
        self.terminal: dict[str, list[dict]] = collections.defaultdict(list)
        self.errors: list[str] = []
        self.seen: set[str] = set()
        self.done = threading.Event()
        self.registered_as = None

    def registered(self, driver, framework_id, master_info):
        self.registered_as = framework_id["value"]

    def error(self, driver, message):
        self.errors.append(message)
        self.done.set()

    def resourceOffers(self, driver, offers):
        for offer in offers:
            have = {r["name"]: r["scalar"]["value"] for r in offer["resources"] if "scalar" in r}
            tasks = []
            while self.waiting and all(have.get(name, 0) >= need - 1e-9 for name, need in TASK.items()):
                for name, need in TASK.items():
                    have[name] -= need
                tasks.append(self.task(self.waiting.pop(), offer["agent_id"]))
            filters = {"refuse_seconds": 0 if self.waiting else 3600}
            driver.launchTasks(offer["id"], tasks, filters)

    def task(self, task_id, agent_id):
        scalars = [
            {"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in TASK.items()
        ]
        return {
            "task_id": {"value": task_id}, "agent_id": agent_id, "name": "conformance",
            "command": {"value": self.command}, "resources": scalars,
        }

    def statusUpdate(self, driver, update):
        task, state = update["task_id"]["value"], update["state"]
        if (mark := update.get("uuid")) in self.seen:
            # Sent once more, as nobody had acknowledged it for a while.
            driver.acknowledgeStatusUpdate(update)
            return
        if mark:
            self.seen.add(mark)
        self.updates[task].append(state)
        if state in ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR"):
            self.terminal[task].append(update)
        driver.acknowledgeStatusUpdate(update)
        if len(self.terminal) == self.count:
            self.done.set()


def run(cluster, scheduler: Scheduler, timeout: float = 180):
    framework = {"user": "root", "name": "pymesos", "checkpoint": True}
    driver = MesosSchedulerDriver(
        scheduler, framework, cluster.master, implicit_acknowledgements=False
    )
    driver.start()
    try:
        assert scheduler.done.wait(timeout), (
            f"{len(scheduler.terminal)} of {scheduler.count} tasks ended within {timeout} s"
        )
    finally:
        driver.stop()
        driver.join()
    assert not scheduler.errors


def test_a_thousand_tasks_finish_once_each(cluster):
    scheduler = Tasks(1000, "true")
    run(cluster, scheduler, 600)
    assert len(scheduler.terminal) == 1000
    for task, ends in scheduler.terminal.items():
        assert [end["state"] for end in ends] == ["TASK_FINISHED"], (task, scheduler.updates[task])
        assert "TASK_RUNNING" in scheduler.updates[task], (task, scheduler.updates[task])
    completed = {f["id"]: f for f in cluster.state()["completed_frameworks"]}
    eventually(
        "the framework's removal",
        lambda: scheduler.registered_as in completed
        or scheduler.registered_as in {f["id"] for f in cluster.state()["completed_frameworks"]},
    )


def test_a_failing_command_is_reported_with_its_status(cluster):
    scheduler = Tasks(1, "exit 3")
    run(cluster, scheduler)
    (end,) = scheduler.terminal["task-0"]
    assert end["state"] == "TASK_FAILED"
    assert "exited with status 3" in end["message"]


def test_a_task_can_be_killed(cluster):
    class Killer(Tasks):
        def statusUpdate(self, driver, update):
            super().statusUpdate(driver, update)
            if update["state"] == "TASK_RUNNING":
                driver.killTask(update["task_id"])

    scheduler = Killer(1, "sleep 600")
    run(cluster, scheduler)
    (end,) = scheduler.terminal["task-0"]
    assert end["state"] == "TASK_KILLED", end
