"""Executors reach their agent by a Unix socket (`--http_executor_domain_sockets`).

The agents here close the executor API on their port, so that what finishes has come by the socket.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from cluster import Cluster, binary, eventually
from images import programs
from pymesos import MesosSchedulerDriver, Scheduler, encode_data
from test_pymesos import Tasks, run

EXAMPLE = Path(binary("dcos")).parent / "examples" / "custom_executor"
CLOSED = json.dumps({"disabled_endpoints": {"paths": ["/api/v1/executor", "/slave(1)/api/v1/executor"]}})
SOCKETS = {"http_executor_domain_sockets": "true", "firewall_rules": CLOSED,
           "executor_reregistration_timeout": "15secs"}

needs_example = pytest.mark.skipif(not EXAMPLE.exists(), reason="skipped: examples are not built")


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def ask(path: Path, method: str, route: str, body: str = "") -> tuple[int, str]:
    connection = Unix(path)
    try:
        connection.request(method, route, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def cluster():
    flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", **SOCKETS}
    with Cluster(flags, {"only": "master"}) as cluster:
        yield cluster


def primes(cluster: Cluster) -> None:
    done = subprocess.run([EXAMPLE, cluster.master, "3"], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 tasks finished" in done.stdout


@needs_example
def test_an_executor_of_the_sdk_uses_it(cluster):
    primes(cluster)


def test_only_what_executors_need_answers_there(cluster):
    path = cluster.folder / "run" / "agent.sock"
    assert path.stat().st_mode & 0o777 == 0o666
    for route in ("/state", "/slave(1)/state", "/metrics/snapshot", "/files/debug", "/slave(1)/master.Ping", "/"):
        assert ask(path, "GET", route)[0] == 403, route
    health = ask(path, "POST", "/slave(1)/api/v1", '{"type": "GET_HEALTH"}')
    assert health[0] == 200 and json.loads(health[1])["get_health"]["healthy"] is True
    stranger = {"type": "MESSAGE", "framework_id": {"value": "f"}, "executor_id": {"value": "e"},
                "message": {"data": ""}}
    for route in ("/api/v1/executor", "/slave(1)/api/v1/executor"):
        assert ask(path, "POST", route, json.dumps(stranger)) == (400, "Framework cannot be found")


def test_tasks_that_see_the_files_of_the_node_see_it(cluster):
    scheduler = Tasks(1, 'test -n "$MESOS_DOMAIN_SOCKET" && test -S "$MESOS_DOMAIN_SOCKET"')
    run(cluster, scheduler)
    assert scheduler.terminal["task-0"][0]["state"] == "TASK_FINISHED"


@needs_example
def test_an_agent_that_was_killed_makes_it_anew(cluster):
    cluster.agent_program.kill()
    cluster.agent_program.start()
    eventually("the agent is back", lambda: ask(
        cluster.folder / "run" / "agent.sock", "POST", "/api/v1", '{"type": "GET_HEALTH"}')[0] == 200)
    primes(cluster)


class InImage(Scheduler):
    """Tasks of one executor, the example's other half, in the root of an image."""

    def __init__(self, master: str) -> None:
        self.lock, self.waiting, self.states = threading.Condition(), [], {}
        self.driver = MesosSchedulerDriver(self, {
            "user": "root", "name": "in-image", "checkpoint": True, "failover_timeout": 60.0}, master)

    def resourceOffers(self, driver, offers):
        def scalars(mem):
            return [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (
                ("cpus", 0.1), ("mem", mem))]

        for offer in offers:
            with self.lock:
                tasks, self.waiting = self.waiting, []
            driver.launchTasks(offer["id"], [{
                "task_id": {"value": name}, "agent_id": offer["agent_id"], "name": name, "resources": scalars(32.0),
                "data": encode_data(b"1000"), "executor": {
                    "executor_id": {"value": "primes"}, "name": "primes", "resources": scalars(64.0),
                    "command": {"value": "echo $MESOS_DOMAIN_SOCKET; exec /bin/custom_executor"},
                    "container": {"type": "MESOS", "mesos": {
                        "image": {"type": "DOCKER", "docker": {"name": "primes"}}}}},
            } for name in tasks], {"refuse_seconds": 0.1})

    def statusUpdate(self, driver, update):
        with self.lock:
            self.states[update["task_id"]["value"]] = update["state"]
            if update["state"] == "TASK_LOST":
                # The offer was of the agent as it was before it was killed.
                self.waiting.append(update["task_id"]["value"])
                driver.reviveOffers()
            self.lock.notify_all()

    def finish(self, name: str) -> None:
        with self.lock:
            self.waiting.append(name)
        self.driver.reviveOffers()
        with self.lock:
            done = self.lock.wait_for(lambda: self.states.get(name) == "TASK_FINISHED", 180)
            assert done, self.states


@needs_example
@pytest.mark.skipif(os.geteuid() != 0, reason="images need root")
def test_an_executor_in_an_image_finds_it_and_finds_it_again(tmp_path):
    stripped = tmp_path / "custom_executor"
    if not shutil.which("strip") or subprocess.run(["strip", "-o", stripped, EXAMPLE], check=False).returncode:
        shutil.copy(EXAMPLE, stripped)
    with tarfile.open(tmp_path / "primes.tar", "w") as tar:
        programs(tar, "sh", str(stripped))
    flags = {"image_providers": "docker", "docker_registry": tmp_path, "isolation": "filesystem/linux,namespaces/pid",
             **SOCKETS}
    with Cluster(flags, {"only": "master"}) as cluster:
        framework = InImage(cluster.master)
        framework.driver.start()
        try:
            framework.finish("before")
            cluster.agent_program.kill()
            cluster.agent_program.start()
            framework.finish("after")
        finally:
            framework.driver.stop()
            framework.driver.join()
        (said,) = {path.resolve(): path for path in cluster.folder.glob("agent/slaves/**/stdout")}
        lines = said.read_text().splitlines()
        assert lines[0] == "/mnt/mesos/agent/agent.sock", lines
        assert sum("agent.sock" in line for line in lines) == 1, "one executor ran both tasks"
