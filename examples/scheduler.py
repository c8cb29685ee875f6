"""A framework in Python: runs a command N times on the cluster and reports.

    make python
    .venv/bin/python examples/scheduler.py 127.0.0.1:5050 20 'echo hello; sleep 1'

It prints each task as it ends, and then

    20 tasks in 2.5 s: 20 finished, 0 failed
"""

import sys
import time

import dcos

NEED = {"cpus": 0.1, "mem": 32.0}


class Repeat(dcos.Scheduler):
    """Launches `count` tasks and stops when all have ended. Its methods could as well be `async`."""

    def __init__(self, command, count):
        self.command, self.waiting, self.count = command, count, count
        self.ended = {}

    def subscribed(self, driver, framework_id):
        print("subscribed as", framework_id)

    def offers(self, driver, offers):
        for offer in offers:
            left = {r["name"]: r["scalar"]["value"] for r in offer["resources"] if "scalar" in r}
            tasks = []
            while self.waiting and all(left.get(name, 0) >= amount for name, amount in NEED.items()):
                for name, amount in NEED.items():
                    left[name] -= amount
                tasks.append(self.task(offer["allocation_info"]))
                self.waiting -= 1
            driver.launch(offer, tasks, refuse_seconds=1 if self.waiting else 3600)

    def task(self, allocation):
        resources = [
            {"name": name, "type": "SCALAR", "scalar": {"value": amount}, "allocation_info": allocation}
            for name, amount in NEED.items()
        ]
        name = f"repeat-{self.waiting}"
        return {"task_id": {"value": name}, "name": name, "resources": resources, "command": {"value": self.command}}

    def update(self, driver, status):
        if status["state"] not in ("TASK_FINISHED", "TASK_FAILED"):
            return
        task = status["task_id"]["value"]
        print(task, status["state"], status.get("message", ""))
        self.ended[task] = status["state"]
        if len(self.ended) == self.count:
            driver.acknowledge(status)
            driver.teardown()


def main(master="127.0.0.1:5050", count="10", command="true"):
    scheduler = Repeat(command, int(count))
    start = time.monotonic()
    dcos.SchedulerDriver(scheduler, master, name="repeat").run()
    finished = list(scheduler.ended.values()).count("TASK_FINISHED")
    took = time.monotonic() - start
    print(f"{count} tasks in {took:.1f} s: {finished} finished, {int(count) - finished} failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
