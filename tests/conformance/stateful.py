"""A stateful framework: it reserves, makes a volume, and comes back to its data.

`python stateful.py HOST:PORT` runs it once against any master, an original one too; it needs only
what API v1 promises, and says what it saw.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pymesos import MesosSchedulerDriver, Scheduler

ROLE, PRINCIPAL, VOLUME = "db", "ops", "data-1"
FRAMEWORK = {
    "user": "root", "name": "stateful", "principal": PRINCIPAL, "roles": [ROLE], "checkpoint": True,
    "failover_timeout": 600.0,
    "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
}
AMOUNTS = {"cpus": 0.2, "mem": 32.0, "disk": 16.0}


def scalar(name: str, value: float, reserved: bool = True) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": ROLE}}
    if reserved:
        resource["reservations"] = [{"type": "DYNAMIC", "role": ROLE, "principal": PRINCIPAL}]
    return resource


def volume(container_path: str = "data") -> dict[str, Any]:
    return {**scalar("disk", AMOUNTS["disk"]), "disk": {
        "persistence": {"id": VOLUME, "principal": PRINCIPAL},
        "volume": {"container_path": container_path, "mode": "RW"}}}


def operation(kind: str, feedback: str | None = None, **fields: Any) -> dict[str, Any]:
    named = {"id": {"value": feedback}} if feedback else {}
    return {"type": kind, kind.lower(): fields, **named}


def sum_of(offer: Any, name: str, test: Callable[[Any], bool]) -> float:
    return sum(r["scalar"]["value"] for r in offer["resources"] if r["name"] == name and test(r))


def is_volume(resource: Any) -> bool:
    return resource.get("disk", {}).get("persistence", {}).get("id") == VOLUME


class Stateful(Scheduler):
    """Does what `next` says with the next offer that suffices; tells what happened in `seen`."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.plan: Callable[[Any], list[dict[str, Any]] | None] | None = None
        self.states: dict[str, list[str]] = {}
        self.operations: list[tuple[str, str]] = []
        self.errors: list[str] = []

    def resourceOffers(self, driver, offers):
        for offer in offers:
            with self.lock:
                operations = self.plan(offer) if self.plan else None
                if operations is not None:
                    self.plan = None
            if operations is None:
                driver.declineOffer(offer["id"], {"refuse_seconds": 0.5})
            else:
                driver.acceptOffers([offer["id"]], operations, {"refuse_seconds": 0.5})

    def statusUpdate(self, driver, update):
        with self.lock:
            self.states.setdefault(update["task_id"]["value"], []).append(update["state"])
            if update["state"] not in ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"):
                self.errors.append(f"{update['state']}: {update.get('message')}")
            self.lock.notify_all()

    def error(self, driver, message):
        self.errors.append(message)

    def do(self, plan: Callable[[Any], list[dict[str, Any]] | None]) -> None:
        with self.lock:
            self.plan = plan

    def wait_for(self, task: str, state: str, timeout: float = 180) -> None:
        with self.lock:
            done = self.lock.wait_for(lambda: state in self.states.get(task, []), timeout)
        assert done, f"{task} is not {state}: {self.states}, {self.errors}"


def task(name: str, offer: Any, command: str, with_volume: bool = True) -> dict[str, Any]:
    resources = [scalar("cpus", AMOUNTS["cpus"]), scalar("mem", AMOUNTS["mem"])]
    return {"task_id": {"value": name}, "agent_id": offer["agent_id"], "name": name,
            "command": {"value": command}, "resources": resources + [volume()] * with_volume}


def reserve_and_write(offer: Any) -> list[dict[str, Any]] | None:
    """RESERVE, CREATE and LAUNCH in one ACCEPT: each uses what the one before made."""
    if any(sum_of(offer, name, lambda r: not r.get("reservations")) < amount
           for name, amount in AMOUNTS.items()):
        return None
    command = "echo kept > data/file && sync && sleep 600"
    return [
        operation("RESERVE", resources=[scalar(name, amount) for name, amount in AMOUNTS.items()]),
        operation("CREATE", volumes=[volume()]),
        operation("LAUNCH", task_infos=[task("writer", offer, command)]),
    ]


def read_again(name: str) -> Callable[[Any], list[dict[str, Any]] | None]:
    def plan(offer: Any) -> list[dict[str, Any]] | None:
        if not sum_of(offer, "disk", is_volume) or sum_of(offer, "cpus", is_reserved) < AMOUNTS["cpus"] - 1e-9:
            return None
        return [operation("LAUNCH", task_infos=[task(name, offer, "grep -q kept data/file")])]
    return plan


def is_reserved(resource: Any) -> bool:
    return bool(resource.get("reservations"))


def give_back(offer: Any) -> list[dict[str, Any]] | None:
    """DESTROY, and UNRESERVE of all there is."""
    if not sum_of(offer, "disk", is_volume) or sum_of(offer, "cpus", is_reserved) < AMOUNTS["cpus"] - 1e-9:
        return None
    return [
        operation("DESTROY", volumes=[volume()]),
        operation("UNRESERVE", resources=[scalar(name, amount) for name, amount in AMOUNTS.items()]),
    ]


def drill(
    master: str,
    restart: Callable[[], None] | None = None,
    check: Callable[[str], None] = lambda moment: None,
) -> None:
    """The whole life of a volume. `restart` kills the agent and starts it again; `check` is called
    at each `moment`: written, restarted, read, given back."""
    scheduler = Stateful()
    driver = MesosSchedulerDriver(scheduler, FRAMEWORK, master)
    driver.start()
    try:
        scheduler.do(reserve_and_write)
        scheduler.wait_for("writer", "TASK_RUNNING")
        time.sleep(0.5)
        check("written")
        if restart:
            restart()
            check("restarted")
        driver.killTask({"value": "writer"})
        scheduler.wait_for("writer", "TASK_KILLED")
        scheduler.do(read_again("reader"))
        driver.reviveOffers()
        scheduler.wait_for("reader", "TASK_FINISHED")
        check("read")
        scheduler.do(give_back)
        driver.reviveOffers()
        deadline = time.monotonic() + 60
        while scheduler.plan:
            assert time.monotonic() < deadline, "nothing was offered to be given back"
            time.sleep(0.1)
        check("given back")
    finally:
        driver.stop()
        driver.join()
    assert not [error for error in scheduler.errors if "KILLED" not in error and "FINISHED" not in error]


if __name__ == "__main__":
    drill(sys.argv[1], check=lambda moment: print(moment, flush=True))
