"""Tasks that a Docker Engine runs: Marathon and pymesos, master, agent and an engine of our own."""

import signal
import time

import docker_engine
import pytest
from cluster import Cluster, eventually, get
from docker_tasks import App, Docker, flags, last

reason = docker_engine.why_not()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))


@pytest.fixture(scope="module")
def cluster(engine):
    with Cluster(agent_flags=flags(engine)) as cluster:
        yield cluster


def test_an_app_runs_in_a_container_and_is_killed(cluster, engine):
    cmd = "printf 'a\\377\\000b\\n'; echo err >&2; echo $MESOS_SANDBOX; echo x > made; cat /mnt/mesos/sandbox/made; exec sleep 600"
    docker = {"parameters": [{"key": "workdir", "value": "/mnt/mesos/sandbox"}]}
    with App(cluster, "plain", cmd, docker=docker) as app:
        eventually("a running task", app.running)
        eventually("its output", lambda: app.log().endswith(b"x\n"))
        assert app.log() == b"a\xff\x00b\n/mnt/mesos/sandbox\nx\n", "byte for byte"
        eventually("what it says of errors", lambda: app.log("stderr") == b"err\n")
        (container,) = engine.containers(running=True)
        assert container["Names"][0].startswith("/mesos-")
        inspected = engine.ask("GET", f"/containers/{container['Id']}/json")
        assert inspected["HostConfig"]["CpuShares"] == 102
        assert inspected["HostConfig"]["Memory"] == 64 << 20
        (shown,) = get(f"http://127.0.0.1:{cluster.agent_port}/containers")
        assert shown["statistics"]["mem_limit_bytes"] == 64 << 20
        assert shown["statistics"]["mem_rss_bytes"] > 0
        assert shown["status"]["executor_pid"] == inspected["State"]["Pid"]
    eventually("its end", lambda: not engine.containers(running=True))
    (gone,) = engine.containers()
    assert gone["State"] == "exited", "it stays known for a while"


def test_ends_are_told_as_the_original_tells_them(cluster):
    finished = last(cluster, Docker(1, "echo done"))
    assert (finished["state"], finished["message"]) == ("TASK_FINISHED", "Container exited with status 0")
    failed = last(cluster, Docker(1, "exit 3"))
    assert (failed["state"], failed["message"]) == ("TASK_FAILED", "Container exited with status 3")
    assert failed["container_status"]["network_infos"]


def test_a_wrong_option_is_named(cluster):
    wrong = Docker(1, "true", {"parameters": [{"key": "frobnicate", "value": "1"}]})
    update = last(cluster, wrong)
    assert update["state"] == "TASK_FAILED"
    assert update["reason"] == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "`frobnicate`" in update["message"], update["message"]


def test_health_checks_look_into_the_container(cluster):
    checks = [{"protocol": "COMMAND", "command": {"value": "cat /tmp/healthy"}, "gracePeriodSeconds": 1,
               "intervalSeconds": 1, "maxConsecutiveFailures": 0}]
    cmd = "sleep 2; echo > /tmp/healthy; exec sleep 600"
    with App(cluster, "healthy", cmd, network="BRIDGE", healthChecks=checks) as app:
        def healthy():
            task = app.running()
            return task and any(one["alive"] for one in task.get("healthCheckResults", []))
        eventually("health", healthy)
        addresses = app.running()["ipAddresses"]
        assert addresses[0]["ipAddress"].startswith("172.31.78."), addresses


def counted(app):
    """The lines so far, which count without a gap or a repetition."""
    lines = app.log().split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        assert line == b"%d" % number, f"line {number} is {line!r}"
    return len(lines)


def test_output_survives_the_agent(cluster):
    slow = "n=0; while :; do n=$((n+1)); echo $n; [ $((n % 20)) = 0 ] && sleep 0.01; done"
    with App(cluster, "counter", slow) as app:
        before = eventually("a running task", app.running)
        for _ in range(5):
            was = counted(app)
            cluster.agent_program.kill()
            time.sleep(0.3)
            cluster.agent_program.start()
            eventually("more output", lambda: counted(app) > was + 100)
        eventually("the same task", lambda: app.running() and app.running()["id"] == before["id"])


def test_containers_survive_the_engine(cluster, engine):
    slow = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done"
    with App(cluster, "enduring", slow) as app:
        before = eventually("a running task", app.running)
        eventually("output", lambda: counted(app) > 10)
        for how in (signal.SIGTERM, signal.SIGKILL):
            was = counted(app)
            engine.stop(how)
            time.sleep(1)
            engine.start()
            eventually("more output", lambda: counted(app) > was + 50)
            assert app.running()["id"] == before["id"]


def test_where_only_mesos_is_enabled_docker_is_refused():
    with Cluster() as cluster:
        update = last(cluster, Docker(1, "true"))
        assert update["state"] == "TASK_FAILED"
        assert "none of the enabled containerizers (mesos)" in update["message"]
