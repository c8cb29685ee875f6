"""Executors show the token that their agent gave them (`--authenticate_http_executors`), and nobody else's."""

import base64
import json
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import Cluster, binary, eventually, get
from pymesos import MesosSchedulerDriver, Scheduler

KEY = "a-key-that-only-the-agent-knows"
EXAMPLE = Path(binary("dcos")).parent / "examples" / "custom_executor"
# What an executor of any language finds, kept where the test can read it.
KEEP = "printenv MESOS_EXECUTOR_AUTHENTICATION_TOKEN > token.part; mv token.part token; sleep 1000"


def resources() -> list[dict]:
    return [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (
        ("cpus", 0.1), ("mem", 32.0))]


class Executors(Scheduler):
    """Two executors that do nothing but keep their tokens, and a group of two tasks."""

    def __init__(self, master: str) -> None:
        self.once, self.states = threading.Lock(), {}
        self.driver = MesosSchedulerDriver(self, {"user": "root", "name": "tokens"}, master)

    def resourceOffers(self, driver, offers):
        offer = offers[0]
        if not self.once.acquire(blocking=False):
            for offer in offers:
                driver.declineOffer(offer["id"], {"refuse_seconds": 600})
            return
        agent = offer["agent_id"]

        def task(name, **more):
            return {"task_id": {"value": name}, "agent_id": agent, "name": name, "resources": resources(), **more}

        own = [task(f"of-{name}", executor={
            "executor_id": {"value": name}, "framework_id": offer["framework_id"], "type": "CUSTOM",
            "resources": resources(), "command": {"value": KEEP}}) for name in ("one", "two")]
        group = [task(name, command={"value": "sleep 1"}) for name in ("left", "right")]
        driver.acceptOffers([offer["id"]], [
            {"type": "LAUNCH", "launch": {"task_infos": own}},
            {"type": "LAUNCH_GROUP", "launch_group": {"executor": {
                "executor_id": {"value": "group"}, "framework_id": offer["framework_id"], "type": "DEFAULT",
                "resources": [*resources(), {"name": "disk", "type": "SCALAR", "scalar": {"value": 32.0}}],
            }, "task_group": {"tasks": group}}},
        ])

    def statusUpdate(self, driver, update):
        self.states.setdefault(update["task_id"]["value"], []).append(update["state"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    key = tmp_path_factory.mktemp("tokens") / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    credentials = key.with_name("credentials")
    credentials.write_text(json.dumps({"credentials": [{"principal": "ops", "secret": "ops-secret"}]}))
    credentials.chmod(0o600)
    agent = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "authenticate_http_executors": "true",
             # These executors register late, or never.
             "executor_registration_timeout": "30mins",
             # There are no rules: whoever has a name may do everything, but executors have none.
             "authenticate_http_readwrite": "true", "http_credentials": credentials, "jwt_secret_key": key}
    with Cluster(agent, {"only": "master"}) as cluster:
        yield cluster


class Known:
    """An executor as its agent sees it, and its token."""

    def __init__(self, cluster: Cluster, framework: dict, executor: dict) -> None:
        self.framework, self.executor = framework["id"], executor["id"]
        self.container, self.folder = executor["container"], Path(executor["directory"])
        self.token = eventually("its token", lambda: (self.folder / "token").read_text().strip())
        self.url = f"http://127.0.0.1:{cluster.agent_port}/slave(1)"

    def claims(self) -> dict:
        payload = self.token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))

    def ask(self, path: str, call: dict, token: str | None) -> tuple[int, object]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, json.dumps(call).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                if call["type"] == "SUBSCRIBE":
                    return answer.status, json.loads(answer.read(int(answer.readline())))
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("WWW-Authenticate")

    def subscribe(self, token: str | None) -> tuple[int, object]:
        return self.ask("/api/v1/executor", {
            "type": "SUBSCRIBE", "framework_id": {"value": self.framework},
            "executor_id": {"value": self.executor}, "subscribe": {}}, token)

    def nested(self, kind: str, token: str | None, **more) -> tuple[int, object]:
        container = {"value": f"inner-{self.executor}", "parent": {"value": self.container}}
        return self.ask("/api/v1", {"type": kind, kind.lower(): {"container_id": container, **more}}, token)


@pytest.fixture(scope="module")
def executors(cluster):
    scheduler = Executors(cluster.master)
    scheduler.driver.start()
    try:
        def found():
            state = get(f"http://127.0.0.1:{cluster.agent_port}/state")
            return {executor["id"]: (framework, executor) for framework in state["frameworks"]
                    for executor in framework["executors"] if executor["id"] in ("one", "two")}

        both = eventually("two executors", lambda: len(found()) == 2 and found())
        yield scheduler, *(Known(cluster, *both[name]) for name in ("one", "two"))
    finally:
        scheduler.driver.stop()
        scheduler.driver.join()


def test_a_token_says_whose_it_is(executors):
    _, one, two = executors
    for executor in (one, two):
        assert executor.claims() == {
            "fid": executor.framework, "eid": executor.executor, "cid": executor.container}


def test_only_its_own_token_lets_an_executor_in(executors):
    _, one, two = executors
    head, payload, signature = one.token.split(".")
    forged = ".".join([head, two.token.split(".")[1], signature])
    for token in (None, "nonsense", forged):
        status, challenge = one.subscribe(token)
        assert status == 401
        assert 'Bearer realm="mesos-agent-executor"' in challenge, challenge
    assert one.subscribe(two.token)[0] == 403
    status, event = one.subscribe(one.token)
    assert (status, event["type"]) == (200, "SUBSCRIBED")


def test_it_may_do_what_it_likes_in_its_own_container_only(executors):
    _, one, two = executors
    launch = {"command": {"value": "exit 3"}}
    assert one.nested("LAUNCH_NESTED_CONTAINER", None, **launch)[0] == 401
    assert one.nested("LAUNCH_NESTED_CONTAINER", two.token, **launch)[0] == 403
    assert one.nested("LAUNCH_NESTED_CONTAINER", one.token, **launch)[0] == 200
    for kind in ("WAIT_NESTED_CONTAINER", "KILL_NESTED_CONTAINER", "REMOVE_NESTED_CONTAINER"):
        assert one.nested(kind, two.token)[0] == 403, kind
    status, ended = one.nested("WAIT_NESTED_CONTAINER", one.token)
    assert (status, ended["wait_nested_container"]["exit_status"]) == (200, 3 << 8)
    assert one.nested("REMOVE_NESTED_CONTAINER", one.token)[0] == 200


def test_task_groups_need_none(executors):
    scheduler, *_ = executors
    eventually("the group's end", lambda: all(
        scheduler.states.get(name, [""])[-1] == "TASK_FINISHED" for name in ("left", "right")))


@pytest.mark.skipif(not EXAMPLE.exists(), reason="skipped: examples are not built")
def test_an_executor_of_the_sdk_shows_it(cluster):
    done = subprocess.run([EXAMPLE, cluster.master, "3"], capture_output=True, text=True, timeout=180, check=False,
                          env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "3 tasks finished" in done.stdout


def test_an_agent_without_a_key_does_not_start(tmp_path):
    done = subprocess.run([
        binary("dcos-agent"), "--master=127.0.0.1:1", f"--work_dir={tmp_path}", "--port=0", "--ip=127.0.0.1",
        "--launcher=posix", "--isolation=posix/cpu", "--authenticate_http_executors=true",
    ], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode not in (0, -signal.SIGTERM)
    assert "jwt_secret_key" in done.stderr + done.stdout
