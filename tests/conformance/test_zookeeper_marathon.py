"""Two masters with a Marathon and a Metronome each, that know of each other through ZooKeeper: any of them may be asked, by
clients that know one address, and the command line needs to know none."""

import http.client
import json
import os
import signal
import subprocess

import pytest
from cluster import binary, eventually
from test_zookeeper import JAR, Ensemble

APP = {"id": "/sleeper", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32}


@pytest.fixture(scope="module")
def ensemble():
    if not JAR.exists():
        pytest.skip("Debian's package zookeeper is not installed")
    with Ensemble(components="master,marathon,metronome") as ensemble:
        yield ensemble


def ask(port: int, method: str, path: str, body: dict | None = None) -> tuple[int, dict, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.getheader("Content-Type", "").startswith("text/event-stream"):
        connection.close()
        return response.status, dict(response.getheaders()), b""
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def leading(ensemble: Ensemble) -> int:
    """The port of the leading Marathon, once it answers."""
    def led() -> int | None:
        port = ensemble.marathons.get(ensemble.leader()["port"])
        if port is None:
            return None
        status, headers, _ = ask(port, "GET", "/v2/apps")
        return port if status == 200 and "x-marathon-via" not in headers else None
    return eventually("a leading Marathon", led)


def dcos(ensemble: Ensemble, folder, *words: str) -> str:
    done = subprocess.run(
        [binary("dcos"), *words], env={**os.environ, "DCOS_DIR": str(folder)}, capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def test_a_standby_speaks_for_the_leader_and_succeeds_it(ensemble):
    leader = leading(ensemble)
    standby = next(port for port in ensemble.marathons.values() if port != leader)
    eventually("the standby knows the leader", lambda: ask(standby, "GET", "/v2/leader")[0] == 200)
    status, headers, body = ask(standby, "GET", "/v2/leader")
    assert (status, json.loads(body)) == (200, {"leader": f"127.0.0.1:{leader}"})
    assert headers["x-marathon-leader"] == f"http://127.0.0.1:{leader}"
    assert headers["x-marathon-via"] == f"1.1 127.0.0.1:{standby}"
    status, headers, _ = ask(standby, "POST", "/v2/apps", APP)
    assert status == 201 and headers["marathon-deployment-id"]
    status, headers, _ = ask(standby, "GET", "/v2/events?event_type=x")
    assert (status, headers["location"]) == (302, f"http://127.0.0.1:{leader}/v2/events?event_type=x")
    running = lambda port: json.loads(ask(port, "GET", "/v2/apps//sleeper")[2])["app"]["tasksRunning"] == 1  # noqa: E731
    eventually("the app runs", lambda: running(standby))

    master = ensemble.masters[list(ensemble.marathons.values()).index(leader)]
    master.kill()
    # The one client that knows only the standby never learns that anything happened, but for a pause.
    def same() -> bool:
        status, headers, _ = ask(standby, "GET", "/v2/apps")
        return status == 200 and headers["x-marathon-leader"].endswith(f":{standby}")
    eventually("the standby leads", same)
    eventually("the app runs on", lambda: running(standby))
    master.start()
    eventually("the old leader stands by", lambda: "x-marathon-via" in ask(leader, "GET", "/v2/apps")[1])
    eventually("and speaks for the new one", lambda: running(leader))


def test_the_command_line_follows_the_leader(ensemble, tmp_path):
    leading(ensemble)
    url = f"zk://{ensemble.servers}/mesos"
    eventually("the agent is back", lambda: "127.0.0.1" in dcos(ensemble, tmp_path, "--master", url, "node", "list"))
    dcos(ensemble, tmp_path, "cluster", "setup", url, "--name", "followed")
    assert url in dcos(ensemble, tmp_path, "cluster", "list")
    assert "127.0.0.1" in dcos(ensemble, tmp_path, "node", "list")
    nobody = subprocess.run(
        [binary("dcos"), "--master", "zk://127.0.0.1:1/mesos", "node", "list"], capture_output=True, text=True, timeout=60
    )
    assert nobody.returncode == 1 and "no master leads at zk://127.0.0.1:1/mesos" in nobody.stderr


def test_a_standby_that_is_asked_to_stop_does(ensemble):
    """Whatever of it ends first, it does not begin anew, and leaves no candidate behind that others would wait for."""
    for _ in range(4):
        eventually("two candidates", lambda: len(ensemble.standing()) == 2)
        leader = ensemble.leads()
        standby = next(master for master in ensemble.masters if master.flags["port"] != leader)
        standby.process.send_signal(signal.SIGTERM)
        assert standby.process.wait(60) == 0
        assert len(ensemble.candidates()) == 1
        standby.start()


def test_a_leader_that_is_asked_to_stop_hands_over(ensemble):
    eventually("two candidates", lambda: len(ensemble.standing()) == 2)
    leader, [_, heir] = ensemble.leads(), ensemble.candidates()
    program = next(master for master in ensemble.masters if master.flags["port"] == leader)
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(60) == 0
    assert ensemble.candidates() == [heir]
    program.start()
    eventually("the next one leads", lambda: ensemble.leads() not in (None, leader))


def test_a_wrong_password_is_told_and_ends_the_master(ensemble, tmp_path):
    leading(ensemble)
    done = subprocess.run(
        [binary("dcos-master"), "--ip=127.0.0.1", "--port=0", "--only=master", f"--work_dir={tmp_path}", "--quorum=1",
         f"--zk=zk://user:wrong@{ensemble.servers}/mesos"],
        capture_output=True, text=True, timeout=180,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "refuses to hold the election" in said and "wrong" not in said, said
