"""Executors of frameworks on our agent: the unmodified pymesos driver (API v1 over HTTP), and
libmesos' own driver (API v0 over libprocess) where there is one.

`LIBMESOS_EXECUTOR` names a program that does what `echo_executor.py` does, but for `env`, built on
libmesos' `MesosExecutorDriver`; its cases are skipped without.
"""

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from cluster import Cluster, eventually, get
from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data

HERE = Path(__file__).resolve().parent
COMMANDS = {"pymesos": f'exec "{sys.executable}" "{HERE}/echo_executor.py"'}
if "LIBMESOS_EXECUTOR" in os.environ:
    COMMANDS["libmesos"] = f'exec "{os.environ["LIBMESOS_EXECUTOR"]}"'
DRIVERS = ["pymesos", pytest.param("libmesos", marks=pytest.mark.skipif(
    "libmesos" not in COMMANDS, reason="skipped: LIBMESOS_EXECUTOR names no executor on libmesos"))]
SCALARS = {"cpus": 0.1, "mem": 32.0}


class Framework(Scheduler):
    """Launches tasks in one executor, all on the agent of the first offer."""

    def __init__(self, driver, master, checkpoint=True):
        self.command, self.lock = COMMANDS[driver], threading.Condition()
        self.waiting, self.agent, self.lost = [], None, []
        self.states, self.statuses, self.messages = {}, {}, []
        self.driver = MesosSchedulerDriver(self, {
            "user": "root", "name": f"executors-{driver}", "checkpoint": checkpoint,
            "failover_timeout": 60.0}, master)

    def __enter__(self):
        self.driver.start()
        return self

    def __exit__(self, *_):
        self.driver.stop()
        self.driver.join()

    def scalars(self):
        return [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in SCALARS.items()]

    def resourceOffers(self, driver, offers):
        for offer in offers:
            with self.lock:
                tasks, self.waiting = self.waiting, []
            self.agent = offer["agent_id"]
            driver.launchTasks(offer["id"], [{
                "task_id": {"value": task}, "agent_id": self.agent, "name": task, "resources": self.scalars(),
                "data": encode_data(data.encode()), "executor": {
                    "executor_id": {"value": "echo"}, "name": "echo", "command": {"value": self.command},
                    "resources": self.scalars()},
            } for task, data in tasks], {"refuse_seconds": 0.1})

    def statusUpdate(self, driver, update):
        with self.lock:
            task = update["task_id"]["value"]
            self.states.setdefault(task, []).append(update["state"])
            self.statuses[task] = update
            self.lock.notify_all()

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        with self.lock:
            self.messages.append(decode_data(message).decode())
            self.lock.notify_all()

    def executorLost(self, driver, executor_id, agent_id, status):
        self.lost.append((executor_id["value"], status))

    def launch(self, *tasks):
        with self.lock:
            self.waiting.extend(task if isinstance(task, tuple) else (task, "") for task in tasks)
        self.driver.reviveOffers()

    def say(self, text):
        self.driver.sendFrameworkMessage({"value": "echo"}, self.agent, encode_data(text.encode()))

    def wait(self, task, state, timeout=120):
        with self.lock:
            reached = self.lock.wait_for(lambda: state in self.states.get(task, []), timeout)
            assert reached, f"{task} is not {state}: {self.states}"

    def heard(self, text, timeout):
        with self.lock:
            return self.lock.wait_for(lambda: any(text in said for said in self.messages), timeout)

    def hear(self, text, timeout=120):
        assert self.heard(text, timeout), self.messages


@pytest.fixture(scope="module")
def cluster():
    with Cluster({"launcher": "posix", "isolation": "posix/cpu,posix/mem",
                  "executor_reregistration_timeout": "15secs"}, {"without": "marathon,metronome"}) as cluster:
        yield cluster


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_executor_lives_its_life(cluster, driver):
    with Framework(driver, cluster.master) as framework:
        framework.launch("one", "two", ("short", "finish"))
        framework.wait("one", "TASK_RUNNING")
        framework.wait("two", "TASK_RUNNING")
        framework.wait("short", "TASK_FINISHED")
        framework.say("hello")
        framework.hear("echo:hello")
        framework.launch("later")
        framework.wait("later", "TASK_RUNNING")
        framework.driver.killTask({"value": "one"})
        framework.wait("one", "TASK_KILLED")
        framework.say("finish:two")
        framework.wait("two", "TASK_FINISHED")
        assert framework.statuses["two"]["source"] == "SOURCE_EXECUTOR"
        assert framework.statuses["two"]["message"] == "asked"
        assert framework.states["short"] == ["TASK_RUNNING", "TASK_FINISHED"]
        (executor,) = [executor for f in get(f"http://127.0.0.1:{cluster.agent_port}/slave(1)/state")["frameworks"]
                       for executor in f["executors"]]
        assert executor["id"] == "echo"
        assert [task["id"] for task in executor["tasks"]] == ["later"]
    # The framework is gone: so is its executor, asked to shut down.
    eventually("the executor's end", lambda: not get(
        f"http://127.0.0.1:{cluster.agent_port}/slave(1)/state")["frameworks"])


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_executor_outlives_the_agent(cluster, driver):
    with Framework(driver, cluster.master) as framework:
        framework.launch("stays", "ends")
        framework.wait("stays", "TASK_RUNNING")
        framework.wait("ends", "TASK_RUNNING")
        for _ in range(2):
            cluster.agent_program.kill()
            cluster.start_agent()
            framework.messages.clear()
            eventually("an echo", lambda: framework.say("again") or framework.heard("echo:again", 1))
        assert framework.states["stays"][-1] == "TASK_RUNNING"
        framework.say("finish:ends")
        framework.wait("ends", "TASK_FINISHED")
        framework.launch("fresh")
        framework.wait("fresh", "TASK_RUNNING")
        framework.driver.killTask({"value": "stays"})
        framework.wait("stays", "TASK_KILLED")
        assert framework.lost == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_without_checkpoints_it_ends_with_the_agent(cluster, driver):
    with Framework(driver, cluster.master, checkpoint=False) as framework:
        framework.launch("fleeting")
        framework.wait("fleeting", "TASK_RUNNING")
        cluster.agent_program.kill()
        cluster.agent_program.start()
        framework.wait("fleeting", "TASK_LOST")
        eventually("the agent's return", lambda: [a for a in cluster.agents() if a["active"]])


def test_its_environment_is_the_promised_one(cluster):
    with Framework("pymesos", cluster.master) as framework:
        framework.launch("asked")
        framework.wait("asked", "TASK_RUNNING")
        framework.say("env")
        framework.hear("MESOS_FRAMEWORK_ID")
        (said,) = [message for message in framework.messages if "MESOS_FRAMEWORK_ID" in message]
        environment = json.loads(said)
        endpoint = f"127.0.0.1:{cluster.agent_port}"
        expected = {
            "MESOS_EXECUTOR_ID": "echo", "MESOS_CHECKPOINT": "1", "MESOS_AGENT_ENDPOINT": endpoint,
            "MESOS_SLAVE_PID": f"slave(1)@{endpoint}", "MESOS_SLAVE_ID": framework.agent["value"],
            "MESOS_RECOVERY_TIMEOUT": "15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "15secs",
            "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs", "LIBPROCESS_PORT": "0", "LIBPROCESS_IP": "127.0.0.1",
        }
        assert {name: environment.get(name) for name in expected} == expected
        assert environment["MESOS_DIRECTORY"].endswith("/runs/" + environment["MESOS_DIRECTORY"].split("/")[-1])
        assert Path(environment["MESOS_SANDBOX"]) == Path(environment["MESOS_DIRECTORY"])


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_that_does_not_end_is_ended(cluster, driver):
    """An executor that was told to shut down and that hangs is destroyed after its grace period."""
    with Framework(driver, cluster.master) as framework:
        framework.launch("hung")
        framework.wait("hung", "TASK_RUNNING")
        status = framework.statuses["hung"]["container_status"]
        pid = eventually("its process", lambda: [int(directory.name) for directory in Path("/proc").glob("[0-9]*")
                                                 if holds(directory, status["container_id"]["value"])])
        for each in pid:
            os.kill(each, 19)
    # Nobody else ends it.
    eventually("its end", lambda: not get(
        f"http://127.0.0.1:{cluster.agent_port}/slave(1)/state")["frameworks"])


def holds(directory: Path, container: str) -> bool:
    try:
        return container.encode() in (directory / "environ").read_bytes()
    except OSError:
        return False
