"""A cluster wholly on TLS in which everybody shows who they are, through the death of its master.

The agent authenticates by CRAM-MD5, the scheduler and whoever reads by basic credentials, executors by the tokens their agent
gave them; all of it inside TLS with certificates on both sides.
"""

import base64
import http.client
import json
import threading
import urllib.error
import urllib.request

import pytest
from cluster import eventually
from test_authentication import credential
from test_tls import EXECUTOR, STRICT, Encrypted, context

SECRETS = {"agent": "agent-secret", "scheduler": "scheduler-secret", "ops": "ops-secret"}
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


def basic(principal: str) -> dict[str, str]:
    token = base64.b64encode(f"{principal}:{SECRETS[principal]}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


def read(url: str, headers: dict[str, str]):
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60, context=context()) as answer:
        return json.loads(answer.read())


class Scheduler:
    """A framework by hand, that comes back to a master as often as it must."""

    def __init__(self, port: int) -> None:
        self.port, self.id, self.stream = port, None, None
        self.lock, self.plan, self.states = threading.Condition(), None, {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        if self.stream:
            self.call("TEARDOWN")
        self.thread.join(20)

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.subscribe()
            except (OSError, ValueError, http.client.HTTPException):
                self.over.wait(0.2)

    def subscribe(self) -> None:
        info = {"user": "root", "name": "secured", "principal": "scheduler", "checkpoint": True, "failover_timeout": 600.0}
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        if self.id:
            info["id"], call["framework_id"] = self.id, self.id
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context())
        try:
            connection.request("POST", "/api/v1/scheduler", json.dumps(call), {**JSON, **basic("scheduler")})
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(answer.status)
            self.stream = answer.getheader("Mesos-Stream-Id")
            while line := answer.readline():
                self.event(json.loads(answer.read(int(line))))
        finally:
            connection.close()

    def call(self, kind: str, **fields) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context())
        headers = {**JSON, **basic("scheduler"), "Mesos-Stream-Id": self.stream}
        body = json.dumps({"type": kind, "framework_id": self.id, **fields})
        connection.request("POST", "/api/v1/scheduler", body, headers)
        status = connection.getresponse().status
        connection.close()
        assert status == 202 or self.over.is_set(), (kind, status)

    def event(self, event) -> None:
        if event["type"] == "SUBSCRIBED":
            self.id = event["subscribed"]["framework_id"]
        elif event["type"] == "OFFERS":
            for offer in event["offers"]["offers"]:
                with self.lock:
                    plan, self.plan = self.plan, None
                tasks = plan(offer) if plan else []
                self.call("ACCEPT", accept={
                    "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.1},
                    "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}] if tasks else []})
        elif event["type"] == "UPDATE":
            status = event["update"]["status"]
            with self.lock:
                self.states.setdefault(status["task_id"]["value"], []).append(status["state"])
                self.lock.notify_all()
            if "uuid" in status:
                self.call("ACKNOWLEDGE", acknowledge={
                    "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]})

    def launch(self, plan) -> None:
        with self.lock:
            self.plan = plan

    def wait(self, task: str, state: str) -> None:
        with self.lock:
            reached = self.lock.wait_for(lambda: state in self.states.get(task, []), 180)
            assert reached, f"{task} is not {state}: {self.states}"


def scalars(mem: float):
    return [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (("cpus", 0.1), ("mem", mem))]


def counted(name: str):
    """A task of the example's executor, which shows its token."""
    return lambda offer: [{
        "task_id": {"value": name}, "agent_id": offer["agent_id"], "name": name, "resources": scalars(32.0),
        "data": base64.b64encode(b"1000").decode(), "executor": {
            "executor_id": {"value": "primes"}, "framework_id": offer["framework_id"], "type": "CUSTOM",
            "name": "primes", "command": {"value": str(EXECUTOR)}, "resources": scalars(32.0)}}]


def sleeping(offer):
    return [{"task_id": {"value": "sleeping"}, "agent_id": offer["agent_id"], "name": "sleeping",
             "command": {"value": "sleep 1000"}, "resources": scalars(32.0)}]


@pytest.fixture
def cluster(tmp_path):
    known = tmp_path / "credentials"
    known.write_text(json.dumps({"credentials": [{"principal": name, "secret": secret} for name, secret in SECRETS.items()]}))
    key = tmp_path / "key"
    key.write_text("a-key-that-only-the-agent-knows")
    for file in (known, key):
        file.chmod(0o600)
    realms = {"authenticate_http_readonly": "true", "authenticate_http_readwrite": "true"}
    cluster = Encrypted(tmp_path, STRICT, STRICT)
    master, agent = cluster.programs
    del master.flags["without"]
    master.flags |= {
        "only": "master", "credentials": known, "authenticate_agents": "true", "authenticate_frameworks": "true",
        "authenticate_http_frameworks": "true", "http_framework_authenticators": "basic", **realms}
    agent.flags |= {
        "credential": credential(tmp_path), "http_credentials": known, "jwt_secret_key": key,
        "authenticate_http_executors": "true", "executor_reregistration_timeout": "15secs", **realms}
    cluster.agents = lambda: read(f"{cluster.master}/slaves", basic("ops"))["slaves"]
    with cluster:
        eventually("the agent's registration", cluster.agents)
        yield cluster


@pytest.mark.skipif(not EXECUTOR.exists(), reason="skipped: examples are not built")
def test_it_goes_on_when_its_master_was_killed(cluster):
    def executors():
        state = read(f"{cluster.agent}/state", basic("ops"))
        return {executor["id"]: executor["container"] for framework in state["frameworks"]
                for executor in framework["executors"]}

    for url in (f"{cluster.master}/state", f"{cluster.agent}/state"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            read(url, {})
    with Scheduler(cluster.master_port) as scheduler:
        scheduler.launch(counted("before"))
        scheduler.wait("before", "TASK_FINISHED")
        scheduler.launch(sleeping)
        scheduler.wait("sleeping", "TASK_RUNNING")
        (agent,) = cluster.agents()
        containers = executors()
        assert set(containers) == {"primes", "sleeping"}

        master = cluster.programs[0]
        master.kill()
        master.start()
        (again,) = eventually("the agent's return", lambda: [one for one in cluster.agents() if one["active"]])
        assert again["id"] == agent["id"]
        scheduler.launch(counted("after"))
        scheduler.wait("after", "TASK_FINISHED")
        assert executors() == containers, "nothing was started anew"
        assert scheduler.states["sleeping"][-1] == "TASK_RUNNING"
        (framework,) = read(f"{cluster.master}/frameworks", basic("ops"))["frameworks"]
        assert framework["id"] == scheduler.id["value"] and framework["principal"] == "scheduler"
