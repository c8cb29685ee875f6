"""Schedulers written in Python, plain and async."""

import asyncio
import signal
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest

import dcos

SCALARS = [
    {"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (("cpus", 0.1), ("mem", 32.0))
]


class Repeat(dcos.Scheduler):
    def __init__(self, count: int, command: str = "true") -> None:
        self.waiting, self.count, self.command = count, count, command
        self.ended: dict[str, str] = {}

    def offers(self, driver, offers) -> Any:
        for offer in offers:
            tasks = []
            while self.waiting and len(tasks) < 5:
                resources = [{**scalar, "allocation_info": offer["allocation_info"]} for scalar in SCALARS]
                tasks.append({
                    "task_id": {"value": f"t{self.waiting}"}, "name": "repeat", "resources": resources,
                    "command": {"value": self.command},
                })
                self.waiting -= 1
            driver.launch(offer, tasks, refuse_seconds=0.1 if self.waiting else 3600)

    def update(self, driver, status) -> Any:
        if status["state"] in ("TASK_FINISHED", "TASK_FAILED"):
            self.ended[status["task_id"]["value"]] = status["state"]
            if len(self.ended) == self.count:
                driver.acknowledge(status)
                driver.teardown()


def address(cluster) -> str:
    return urlsplit(cluster.master).netloc


@pytest.mark.parametrize("protobuf", [True, False])
def test_plain(cluster, protobuf):
    scheduler = Repeat(10)
    driver = dcos.SchedulerDriver(scheduler, address(cluster), name="plain", protobuf=protobuf)
    assert driver.run() is True
    assert list(scheduler.ended.values()) == ["TASK_FINISHED"] * 10
    assert str(driver.framework_id) in repr(driver)


def test_async(cluster):
    class AsyncRepeat(Repeat):
        async def offers(self, driver, offers):
            await asyncio.sleep(0)
            await asyncio.to_thread(super().offers, driver, offers)

        async def update(self, driver, status):
            await asyncio.to_thread(super().update, driver, status)

    scheduler = AsyncRepeat(3, "exit 1")
    driver = dcos.SchedulerDriver(scheduler, address(cluster), name="async")
    assert asyncio.run(driver.run_async()) is True
    assert set(scheduler.ended.values()) == {"TASK_FAILED"}


def test_an_exception_of_the_scheduler_ends_the_driver(cluster):
    class Broken(dcos.Scheduler):
        def subscribed(self, driver, framework_id):
            raise LookupError("no idea")

    with pytest.raises(LookupError, match="no idea"):
        dcos.SchedulerDriver(Broken(), address(cluster), name="broken").run()


def test_a_refusal_is_an_error(cluster):
    driver = dcos.SchedulerDriver(dcos.Scheduler(), address(cluster), name="bad", roles=["a/../b"])
    with pytest.raises(dcos.RefusedError, match="role"):
        driver.run()


def test_an_interrupt_ends_a_scheduler_that_nobody_answers():
    """Nobody listens there: it says so, and ^C ends it."""
    code = (
        # A program whose starter ignores it has no handler.
        "import dcos, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "dcos.SchedulerDriver(dcos.Scheduler(), '127.0.0.1:1', name='alone').run()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=180)[1]
        finally:
            process.kill()
    assert "can't subscribe" in said and "127.0.0.1:1" in said
    assert "KeyboardInterrupt" in rest and process.returncode == -signal.SIGINT
