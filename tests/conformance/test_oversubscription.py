"""Revocable resources: found by an estimator, offered to who can bear their loss, taken back."""

import threading

import pytest
from cluster import Cluster, eventually, get
from pymesos import MesosSchedulerDriver, Scheduler

AGENT = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "resource_estimator": "fixed",
         "oversubscribed_resources": "cpus:4", "oversubscribed_resources_interval": "200ms"}
MASTER = {"without": "marathon,metronome"}


class Borrower(Scheduler):
    """Runs one task on revocable processors, or waits in vain."""

    def __init__(self, master, capabilities):
        self.lock = threading.Condition()
        self.offered, self.updates, self.launched = [], [], False
        self.driver = MesosSchedulerDriver(self, {
            "user": "root", "name": "borrower", "checkpoint": True,
            "capabilities": [{"type": capability} for capability in capabilities]}, master)

    def __enter__(self):
        self.driver.start()
        return self

    def __exit__(self, *_):
        self.driver.stop()
        self.driver.join()

    def resourceOffers(self, driver, offers):
        for offer in offers:
            lent = [r for r in offer["resources"] if "revocable" in r]
            with self.lock:
                self.offered.append(sum(r["scalar"]["value"] for r in lent))
                tasks = []
                # What is lent may come alone while the rest of the agent is still being declined.
                memory = any(r["name"] == "mem" for r in offer["resources"])
                if lent and memory and not self.launched:
                    self.launched = True
                    tasks = [{"task_id": {"value": "borrowed"}, "agent_id": offer["agent_id"], "name": "borrowed",
                              "command": {"value": "sleep 600"}, "resources": [
                                  {"name": "cpus", "type": "SCALAR", "scalar": {"value": 3.0}, "revocable": {}},
                                  {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}}]}]
                self.lock.notify_all()
            driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.1})

    def statusUpdate(self, driver, update):
        with self.lock:
            self.updates.append(update)
            self.lock.notify_all()

    def wait(self, condition, timeout=120):
        with self.lock:
            assert self.lock.wait_for(condition, timeout), (self.offered, self.updates)


def test_what_is_found_is_offered_to_who_can_bear_its_loss():
    with Cluster(AGENT, MASTER) as cluster:
        with Borrower(cluster.master, ["REVOCABLE_RESOURCES"]) as able, Borrower(cluster.master, []) as unable:
            able.wait(lambda: able.updates and able.updates[-1]["state"] == "TASK_RUNNING")
            # What is lent is not lent again: one processor is left.
            able.wait(lambda: 1.0 in able.offered)
            assert max(able.offered) == 4.0
            unable.wait(lambda: unable.offered)
            assert set(unable.offered) == {0}
            (agent,) = cluster.agents()
            eventually("the master's account", lambda: cluster.agents()[0]["resources"].get("cpus_revocable") == 4.0)
            state = get(f"http://127.0.0.1:{cluster.agent_port}/slave(1)/state")
            (task,) = state["frameworks"][0]["executors"][0]["tasks"]
            assert task["resources"]["cpus_revocable"] == 3.0


@pytest.mark.parametrize(("capabilities", "state"), [
    (["REVOCABLE_RESOURCES"], "TASK_LOST"), (["REVOCABLE_RESOURCES", "PARTITION_AWARE"], "TASK_GONE")])
def test_who_harms_others_is_preempted(capabilities, state):
    overloaded = {**AGENT, "qos_controller": "load", "qos_load_threshold_5min": "0",
                  "qos_load_threshold_15min": "0"}
    with Cluster(overloaded, MASTER) as cluster, Borrower(cluster.master, capabilities) as borrower:
        borrower.wait(lambda: borrower.updates and borrower.updates[-1]["state"] == state)
        assert borrower.updates[-1]["reason"] == "REASON_CONTAINER_PREEMPTED"
        assert borrower.updates[-1]["source"] == "SOURCE_AGENT"
