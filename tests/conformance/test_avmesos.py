"""An unmodified avmesos scheduler (API v1 over HTTP, the client behind Airflow's Mesos provider)."""

import threading

from avmesos.client import MesosClient
from cluster import eventually

TASK = {"cpus": 0.1, "mem": 32.0}


class Service:
    """Runs one task that is killed, one that finishes, one that fails; then is torn down."""

    def __init__(self, master: str) -> None:
        self.client = MesosClient(mesos_urls=[f"http://{master}"], frameworkName="avmesos")
        self.client.set_role("avmesos")
        self.client.set_failover_timeout(60)
        self.client.add_capability("PARTITION_AWARE")
        self.commands = {"killed": "sleep 600", "finished": "true", "failed": "exit 7"}
        self.waiting = dict(self.commands)
        self.states: dict[str, list[str]] = {}
        self.agents: dict[str, str] = {}
        self.driver = None
        self.errors: list[object] = []
        self.done = threading.Event()
        for event, react in [(MesosClient.SUBSCRIBED, self.subscribed), (MesosClient.OFFERS, self.offers),
                             (MesosClient.UPDATE, self.update), (MesosClient.ERROR, self.errors.append)]:
            self.client.on(event, react)

    def subscribed(self, driver):
        self.driver = driver

    def offers(self, offers):
        for offer in offers:
            about = offer.get_offer()
            agent = about["agent_id"]
            tasks = [self.task(name, agent) for name in list(self.waiting)]
            self.waiting.clear()
            if tasks:
                offer.accept(tasks, {"filters": {"refuse_seconds": 1}})
            else:
                offer.decline({"filters": {"refuse_seconds": 1}})

    def task(self, name, agent):
        self.agents[name] = agent["value"]
        return {"name": name, "task_id": {"value": name}, "agent_id": agent,
                "command": {"value": self.commands[name], "shell": True},
                "resources": [{"name": kind, "type": "SCALAR", "scalar": {"value": value},
                               "allocation_info": {"role": "avmesos"}} for kind, value in TASK.items()]}

    def update(self, update):
        status = update["status"]
        name, state = status["task_id"]["value"], status["state"]
        self.states.setdefault(name, []).append(state)
        # The client acknowledges by itself before it calls back.
        if name == "killed" and state == "TASK_RUNNING":
            self.driver.kill(self.agents[name], name)
        ends = {states[-1] for states in self.states.values()}
        if len(self.states) == 3 and all(end in ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED") for end in ends):
            self.done.set()


def test_its_scheduler_runs_tasks_to_their_ends(cluster):
    service = Service(cluster.master)
    thread = threading.Thread(target=service.client.register, daemon=True)
    thread.start()
    assert service.done.wait(180), service.states
    assert {name: states[-1] for name, states in service.states.items()} == {
        "killed": "TASK_KILLED", "finished": "TASK_FINISHED", "failed": "TASK_FAILED"}
    assert service.errors == []
    service.driver.reconcile([{"task_id": {"value": "failed"}}])
    service.driver.suppress()
    service.driver.revive()
    service.driver.tearDown()
    eventually("the framework's removal", lambda: any(
        framework["name"] == "avmesos" for framework in cluster.state()["completed_frameworks"]))
