"""kill -9 of the master, the agent, or both, at random points of 200 launches.

Every task ends in exactly one terminal state that the scheduler saw, no command runs twice, tasks
that run survive, and nothing is left behind.
"""

import collections
import os
import random
import threading
import time
from pathlib import Path

import pytest
from cluster import Cluster, eventually
from pymesos import MesosSchedulerDriver
from test_pymesos import Tasks

TERMINAL = {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR",
            "TASK_DROPPED", "TASK_GONE"}


class Survivors(Tasks):
    """Reconciles after each subscription, and asks again for tasks nobody has told of for a while."""

    def __init__(self, count: int, folder: Path) -> None:
        super().__init__(count, "")
        self.folder = folder
        self.agents: dict[str, dict] = {}

    def task(self, task_id, agent_id):
        # One line a start: a command that ran twice leaves two.
        self.command = f"echo $$ >> {self.folder}/{task_id}; sleep 0.{random.randrange(1, 9)}"
        self.agents[task_id] = agent_id
        return super().task(task_id, agent_id)

    def reregistered(self, driver, master_info):
        self.reconcile(driver)

    def reconcile(self, driver):
        open_tasks = [task for task in self.agents if task not in self.terminal]
        if open_tasks:
            driver.reconcileTasks([
                {"task_id": {"value": task}, "agent_id": self.agents[task]} for task in open_tasks
            ])

    def statusUpdate(self, driver, update):
        task = update["task_id"]["value"]
        if task in self.terminal and update.get("reason") == "REASON_RECONCILIATION":
            # The question crossed the task's end on the wire; a master that came back since has
            # nothing to tell of a task whose end was acknowledged.
            return
        super().statusUpdate(driver, update)
        if update["state"] in TERMINAL and update not in self.terminal[task]:
            self.terminal[task].append(update)
        if len(self.terminal) == self.count:
            self.done.set()


@pytest.mark.parametrize("victims", [["master"], ["agent"], ["master", "agent"]], ids="+".join)
def test_tasks_survive_crashes(victims, request, tmp_path):
    seed = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
    print(f"CRASH_SEED={seed}")
    dice = random.Random(seed)
    with Cluster() as cluster:
        scheduler = Survivors(200, tmp_path)
        framework = {"user": "root", "name": "survivors", "checkpoint": True,
                     "failover_timeout": 600.0}
        driver = MesosSchedulerDriver(
            scheduler, framework, cluster.master, implicit_acknowledgements=False
        )
        driver.start()
        programs = {"master": cluster.master_program, "agent": cluster.agent_program}
        crashes = 0
        try:
            deadline = time.monotonic() + 600
            while not scheduler.done.wait(dice.uniform(0.2, 2.0)):
                assert time.monotonic() < deadline, (
                    f"{len(scheduler.terminal)} of 200 tasks ended; seed {seed}")
                if crashes < 6:
                    crashes += 1
                    for victim in victims:
                        programs[victim].kill()
                    time.sleep(dice.uniform(0, 0.5))
                    for victim in victims:
                        programs[victim].start()
                    eventually("the agent's return", lambda: any(
                        agent["active"] for agent in cluster.agents()))
                else:
                    try:
                        scheduler.reconcile(driver)
                    except Exception as error:  # between two subscriptions
                        print("reconcile:", error)
        finally:
            driver.stop()
            driver.join()

        assert len(scheduler.terminal) == 200
        for task, ends in scheduler.terminal.items():
            assert len({end["state"] for end in ends}) == 1, (task, ends, seed)
        starts = collections.Counter(
            len(file.read_text().splitlines()) for file in tmp_path.iterdir())
        assert set(starts) <= {1}, f"commands that ran so many times: {starts}; seed {seed}"
        print(collections.Counter(ends[0]["state"] for ends in scheduler.terminal.values()))
        folder = str(cluster.folder)
    leftovers = eventually("the end of every process", lambda: not of_folder(folder) or None)
    assert leftovers


def of_folder(folder: str) -> list[str]:
    """Processes that have to do with the cluster in `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                directory = os.readlink(entry / "cwd")
            except OSError:
                continue
            if folder in command or folder in directory:
                found.append(f"{entry.name}: {command}")
    return found


def test_a_running_task_survives_the_agents_restart(tmp_path):
    with Cluster() as cluster:
        class OneTask(Tasks):
            running = threading.Event()

            def statusUpdate(self, driver, update):
                super().statusUpdate(driver, update)
                if update["state"] == "TASK_RUNNING":
                    self.running.set()

        go = tmp_path / "go"
        scheduler = OneTask(1, f"echo $$ > {tmp_path}/pid; until [ -e {go} ]; do sleep 0.05; done")
        framework = {"user": "root", "name": "one", "checkpoint": True, "failover_timeout": 600.0}
        driver = MesosSchedulerDriver(
            scheduler, framework, cluster.master, implicit_acknowledgements=False)
        driver.start()
        try:
            assert scheduler.running.wait(180)
            pid = eventually("the task's pid", lambda: (tmp_path / "pid").read_text().strip())
            cluster.agent_program.kill()
            assert Path(f"/proc/{pid}").exists()
            cluster.start_agent()
            assert Path(f"/proc/{pid}").exists(), "the task died with its agent"
            go.touch()
            assert scheduler.done.wait(180)
            assert [end["state"] for end in scheduler.terminal["task-0"]] == ["TASK_FINISHED"]
        finally:
            driver.stop()
            driver.join()
