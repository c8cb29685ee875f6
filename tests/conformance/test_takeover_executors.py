"""Executors of an original agent that ours takes the place of: on the v1 API and on libmesos' driver.

They come back by themselves, their tasks live on, and updates that nobody acknowledged come again.
"""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import original
import pytest
from cluster import Program, binary, eventually, free_port, get
from original import Original
from pymesos import MesosSchedulerDriver
from test_executors import DRIVERS, Framework

pytestmark = original.needed


class Holding(Framework):
    """Does not acknowledge the updates of the tasks in `held` until they are released."""

    def __init__(self, driver, master):
        super().__init__(driver, master)
        self.held = set()
        self.driver = MesosSchedulerDriver(
            self, self.driver.framework, master, implicit_acknowledgements=False)

    def statusUpdate(self, driver, update):
        super().statusUpdate(driver, update)
        if update["task_id"]["value"] not in self.held and "uuid" in update:
            driver.acknowledgeStatusUpdate(update)

    def release(self, task):
        self.held.discard(task)
        self.driver.acknowledgeStatusUpdate(self.statuses[task])


@pytest.fixture
def folder():
    folder = Path(tempfile.mkdtemp(prefix="dcos-takeover-"))
    yield folder
    original.remove(folder)
    assert not shutil.os.path.exists(folder)


def in_place_of(agent: Original, folder: Path) -> Program:
    folder.mkdir()
    return Program("dcos-agent", {
        "ip": "127.0.0.1", "port": agent.port, "master": agent.of, "hostname": "127.0.0.1",
        "work_dir": agent.work_dir, "runtime_dir": folder / "run", "launcher": "posix",
        "isolation": "posix/cpu,posix/mem", "executor_reregistration_timeout": "15secs",
        "resources": agent.environment["MESOS_RESOURCES"],
    }, folder / "agent.log", {"RUST_LOG": "info"})


def refusal(work_dir: Path) -> str:
    """What our agent says of a work directory that it cannot take over."""
    asked = subprocess.run(
        [binary("dcos-agent"), f"--work_dir={work_dir}", "--master=127.0.0.1:1", "--check_takeover=true"],
        capture_output=True, text=True, timeout=180, check=False)
    assert asked.returncode != 0, asked
    return asked.stdout + asked.stderr


@pytest.mark.parametrize("driver", DRIVERS)
def test_executors_and_held_updates_are_taken_over(folder, driver):
    master = Original(folder / "master", free_port()).start()
    agent = Original(folder / "agent", free_port(), of=master.address, recovery_timeout="5mins").start()
    ours = in_place_of(agent, folder / "ours")
    try:
        with Holding(driver, master.address) as framework:
            framework.held.add("held")
            framework.launch("stays", "held")
            framework.wait("stays", "TASK_RUNNING")
            framework.wait("held", "TASK_RUNNING")
            assert "the original agent is still running" in refusal(agent.work_dir)
            uuid = framework.statuses["held"]["uuid"]
            seen = len(framework.states["held"])
            agent.kill()
            ours.start()
            eventually("the update once more", lambda: len(framework.states["held"]) > seen)
            assert framework.statuses["held"]["uuid"] == uuid
            framework.release("held")
            eventually("an echo", lambda: echoed(framework, "hello"))
            # What was adopted once stays adopted.
            ours.kill()
            ours.start()
            eventually("an echo of a restarted agent", lambda: echoed(framework, "again"))
            framework.launch("fresh")
            framework.wait("fresh", "TASK_RUNNING")
            framework.driver.killTask({"value": "stays"})
            framework.wait("stays", "TASK_KILLED")
            framework.say("finish:held")
            framework.wait("held", "TASK_FINISHED")
            assert framework.states["stays"] == ["TASK_RUNNING", "TASK_KILLED"]
            assert framework.lost == []
        eventually("the executor's end", lambda: not get(f"http://{agent.address}/slave(1)/state")["frameworks"])
    except BaseException:
        for log in (folder / "ours" / "agent.log", agent.log):
            print(f"--- {log}", *log.read_text(errors="replace").splitlines()[-40:], sep="\n")
        raise
    finally:
        ours.stop(signal.SIGUSR1)
        agent.kill()
        master.kill()


def echoed(framework: Holding, text: str) -> bool:
    framework.say(text)
    with framework.lock:
        return framework.lock.wait_for(lambda: f"echo:{text}" in framework.messages, 1)
