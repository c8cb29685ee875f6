"""Agents, drivers and schedulers that show who they are, and those that do not, on whole clusters: ours,
and ours mixed with an original master or agent.

`LIBMESOS_SCHEDULER` names a program on libmesos' scheduler driver: `PROGRAM HOST:PORT COUNT` runs that many
tasks of `true` as the `principal:secret` in `WHO`, within `TIMEOUT` seconds, and prints a line of JSON with
`finished` and `errors`. Its cases are skipped without.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import PORTS, Program, eventually, free_port, get
from original import Original, needed, remove
from pymesos import MesosSchedulerDriver
from test_pymesos import Tasks

SECRETS = {"agent": "agent-secret", "scheduler": "scheduler-secret"}
DRIVER = os.environ.get("LIBMESOS_SCHEDULER")
needs_driver = pytest.mark.skipif(not DRIVER, reason="skipped: LIBMESOS_SCHEDULER names no program on libmesos")


def credential(folder: Path, secret: str = SECRETS["agent"]) -> Path:
    """The file an agent reads."""
    file = folder / f"credential-{secret}"
    file.write_text(json.dumps({"principal": "agent", "secret": secret}))
    file.chmod(0o600)
    return file


def master_flags(folder: Path) -> dict[str, str]:
    file = folder / "credentials"
    file.write_text(json.dumps({"credentials": [
        {"principal": principal, "secret": secret} for principal, secret in SECRETS.items()]}))
    file.chmod(0o600)
    return {
        "credentials": str(file), "authenticate_agents": "true", "authenticate_frameworks": "true",
        "authenticate_http_frameworks": "true", "http_framework_authenticators": "basic",
    }


def our_master(folder: Path, port: int) -> Program:
    return Program("dcos-master", {
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": port, "work_dir": folder / "master",
        "only": "master", **master_flags(folder),
    }, folder / "master.log", {})


def our_agent(folder: Path, master: str, name: str = "agent", **flags) -> Program:
    return Program("dcos-agent", {
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": free_port(), "master": master,
        "work_dir": folder / name, "runtime_dir": folder / f"{name}-run", "launcher": "posix",
        "isolation": "posix/cpu,posix/mem", "resources": f"cpus:8;mem:4096;disk:1000;{PORTS}", **flags,
    }, folder / f"{name}.log", {})


class Guarded:
    """A master that asks everybody, ours or an original, and an agent that answers."""

    def __init__(self, master: str = "ours", agent: str = "ours") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
        port = free_port()
        self.master = f"127.0.0.1:{port}"
        if master == "ours":
            self.master_program = our_master(self.folder, port)
        else:
            self.master_program = Original(self.folder / "original-master", port, **master_flags(self.folder))
        shown = credential(self.folder)
        if agent == "ours":
            self.agent_program = our_agent(self.folder, self.master, credential=shown)
        else:
            self.agent_program = Original(self.folder / "original-agent", free_port(), self.master, credential=shown)

    def __enter__(self):
        try:
            self.master_program.start()
            eventually("the master's start", lambda: get(f"http://{self.master}/state")["id"])
            self.agent_program.start()
            eventually("the agent's registration", self.agents)
        except AssertionError:
            self.__exit__("its start", None, None)
            raise
        return self

    def __exit__(self, failed, *_):
        for program in (self.agent_program, self.master_program):
            if isinstance(program, Original):
                program.kill()
            else:
                # Signed off, an agent ends its launcher as well.
                program.stop(signal.SIGUSR1 if program.name == "dcos-agent" else signal.SIGTERM)
            if failed and program.log.exists():
                print(f"--- {program.log}", *program.log.read_text(errors="replace").splitlines()[-40:], sep="\n")
        remove(self.folder)

    def agents(self):
        return get(f"http://{self.master}/slaves")["slaves"]


COMBINATIONS = [
    pytest.param("ours", "ours", id="ours"),
    pytest.param("ours", "original", id="original agent", marks=needed),
    pytest.param("original", "ours", id="original master", marks=needed),
]


@pytest.fixture(scope="module")
def ours():
    with Guarded() as cluster:
        yield cluster


def run(cluster: Guarded, principal: str | None, secret: str | None, timeout: float = 180) -> Tasks:
    scheduler = Tasks(3, "true")
    framework = {"user": "root", "name": "who-it-is"}
    if principal:
        framework["principal"] = principal
    driver = MesosSchedulerDriver(scheduler, framework, cluster.master, principal=principal, secret=secret)
    driver.start()
    try:
        scheduler.done.wait(timeout)
    finally:
        driver.stop()
        driver.join()
    return scheduler


@pytest.mark.parametrize("combination", [pytest.param(c.values, id=c.id, marks=c.marks) for c in COMBINATIONS])
def test_who_shows_its_secret_is_let_in(combination):
    with Guarded(*combination) as cluster:
        (agent,) = cluster.agents()
        assert agent["active"]
        scheduler = run(cluster, "scheduler", SECRETS["scheduler"])
        ends = [end[0]["state"] for end in scheduler.terminal.values()]
        assert ends == ["TASK_FINISHED"] * 3, (ends, scheduler.errors)
        if DRIVER:
            found = drive(cluster, f"scheduler:{SECRETS['scheduler']}", 40)
            assert found["finished"] == 3, found


def drive(cluster: Guarded, who: str | None, timeout: float) -> dict:
    """What libmesos' driver lives through."""
    assert DRIVER
    environment = {**os.environ, "TIMEOUT": str(timeout), **({"WHO": who} if who else {})}
    ran = subprocess.run(
        [DRIVER, cluster.master, "3"], env=environment, capture_output=True, text=True, timeout=timeout + 30)
    return json.loads(ran.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(("principal", "secret"), [("scheduler", "wrong"), (None, None)])
def test_a_scheduler_that_does_not_is_not(ours, principal, secret):
    with pytest.raises(RuntimeError, match="HTTP 401"):
        run(ours, principal, secret, 20)
    assert not [one for one in get(f"http://{ours.master}/frameworks")["frameworks"] if one["active"]]


def refusals(cluster: Guarded) -> dict[str, list[str]]:
    """What libmesos' driver is told that shows a wrong secret, or none."""
    return {str(who): drive(cluster, who, 8)["errors"] for who in ("scheduler:wrong", None)}


@needs_driver
@needed
def test_a_driver_is_told_why_as_by_the_original(ours):
    with Guarded("original", "ours") as original:
        expected = refusals(original)
    found = refusals(ours)
    # They tell whom they speak of and to.
    for told in (expected, found):
        for errors in told.values():
            errors[:] = [" ".join(word for word in error.split() if "@" not in word) for error in errors]
    assert found == expected


def test_an_agent_with_a_wrong_secret_ends(ours):
    folder = ours.folder / "wrong"
    folder.mkdir()
    agent = our_agent(folder, ours.master, credential=credential(folder, "wrong"))
    agent.start()
    try:
        eventually("its end", lambda: agent.process.poll() is not None)
        assert agent.process.poll() != 0
        assert "refused authentication" in agent.log.read_text()
    finally:
        agent.stop(signal.SIGUSR1)


def test_an_agent_without_one_is_not_heard(ours):
    """As with the original, which does not even answer."""
    folder = ours.folder / "nothing"
    folder.mkdir()
    agent = our_agent(folder, ours.master)
    agent.start()
    try:
        with pytest.raises(AssertionError, match="did not happen"):
            eventually("its registration", lambda: len(ours.agents()) > 1, 5)
        assert agent.process.poll() is None
    finally:
        agent.stop(signal.SIGUSR1)


def test_too_much_is_answered_with_429():
    """Rate limits hold for calls of API v1, too."""
    folder, port = Path(tempfile.mkdtemp(prefix="dcos-conformance-")), free_port()
    rate, waiting = 0.5, 3
    limits = {"limits": [{"principal": "chatty", "qps": rate, "capacity": waiting}]}
    master = Program("dcos-master", {
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": port, "work_dir": folder / "master",
        "only": "master", "rate_limits": json.dumps(limits),
    }, folder / "log", {})
    master.start()
    try:
        url = f"http://127.0.0.1:{port}/api/v1/scheduler"
        eventually("the master's start", lambda: get(f"http://127.0.0.1:{port}/state")["id"])
        for principal, refused in (("chatty", True), ("quiet", False)):
            stream = post(url, {"type": "SUBSCRIBE", "subscribe": {"framework_info": {
                "user": "root", "name": principal, "principal": principal}}})
            length = int(stream.readline())
            framework = json.loads(stream.read(length))["subscribed"]["framework_id"]
            headers = {"Mesos-Stream-Id": stream.headers["Mesos-Stream-Id"]}
            answers: list[int] = []
            revive = {"type": "REVIVE", "framework_id": framework}
            threads = [threading.Thread(target=lambda: answers.append(status(url, revive, headers)))
                       for _ in range(20)]
            begin = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - begin
            stream.close()
            assert set(answers) == ({202, 429} if refused else {202}), answers
            # At once one, then what the rate allows, and who may wait until its turn comes.
            assert answers.count(202) <= 2 + waiting + rate * seconds or not refused, (answers, seconds)
    finally:
        master.stop()
        shutil.rmtree(folder, ignore_errors=True)


def post(url: str, call: dict, headers: dict[str, str] | None = None):
    request = urllib.request.Request(url, json.dumps(call).encode(), {
        "Content-Type": "application/json", "Accept": "application/json", **(headers or {})})
    return urllib.request.urlopen(request, timeout=60)


def status(url: str, call: dict, headers: dict[str, str]) -> int:
    try:
        with post(url, call, headers) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
