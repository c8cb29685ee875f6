"""What becomes of an engine's containers when agents and engines end, hang, or have too much."""

import json
import os
import signal

import pytest
from cluster import Cluster, eventually, get
from docker_engine import Engine, rootfs, why_not
from docker_tasks import App, Docker, flags, last
from test_pymesos import Tasks

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def mine(engine, **query):
    return [one for one in engine.containers(**query) if one["Labels"].get("dcos.node")]


def forget(cluster):
    """As after the loss of the agent's disk: it knows its node, and none of its tasks."""
    cluster.agent_program.kill()
    for path in (cluster.folder / "agent" / "meta").glob("slaves/latest"):
        path.unlink()


@pytest.mark.parametrize("kill", [True, False])
def test_orphans_are_killed_if_that_is_wanted(engine, kill):
    with Cluster(agent_flags=flags(engine, docker_kill_orphans=str(kill).lower())) as cluster:
        # Nothing takes its place: what that left would be counted by the next test.
        with App(cluster, "orphan", "exec sleep 600", backoffSeconds=3600) as app:
            eventually("a running task", app.running)
            stranger = engine.ask("POST", "/containers/create", {"Image": "house/tools:1", "Cmd": ["sleep", "600"]})["Id"]
            engine.ask("POST", f"/containers/{stranger}/start")
            (orphan,) = mine(engine, running=True)
            forget(cluster)
            cluster.agent_program.start()
            eventually("the agent is back", lambda: get(f"http://127.0.0.1:{cluster.agent_port}/state")["id"])

            def state(one):
                return engine.ask("GET", f"/containers/{one}/json")["State"]["Running"]

            if kill:
                eventually("its end", lambda: not state(orphan["Id"]))
            else:
                assert state(orphan["Id"])
            assert state(stranger), "of others nothing is touched"
            for one in (orphan["Id"], stranger):
                engine.ask("DELETE", f"/containers/{one}?force=true")


def test_containers_that_ended_stay_for_the_remove_delay(engine):
    with Cluster(agent_flags=flags(engine, docker_remove_delay="1secs")) as cluster:
        assert last(cluster, Docker(1, "true"))["state"] == "TASK_FINISHED"
        eventually("its removal", lambda: not mine(engine))
    with Cluster(agent_flags=flags(engine, docker_remove_delay="1hrs")) as cluster:
        assert last(cluster, Docker(1, "true"))["state"] == "TASK_FINISHED"
        (ended,) = mine(engine)
        # The next agent goes on with what is left of the time.
        cluster.agent_program.kill()
        cluster.agent_program.flags["docker_remove_delay"] = "1secs"
        cluster.agent_program.start()
        eventually("its removal", lambda: not mine(engine))


def test_images_and_containers_that_nobody_uses_go(engine):
    def images():
        return {tag for one in engine.ask("GET", "/images/json") for tag in one["RepoTags"] or []}

    archive = {"Content-Type": "application/x-tar"}
    for name in ("house/old", "house/kept", "house/used"):
        # Each is an image of its own.
        engine.ask("POST", f"/images/create?fromSrc=-&repo={name}&tag=1&message={name[6:]}", rootfs(), archive)
    create = {"Image": "house/used:1", "Cmd": ["sh", "-c", "true"]}
    for name in ("done", "build-1"):
        engine.ask("POST", f"/containers/create?name={name}", create)
        engine.ask("POST", f"/containers/{name}/start")
        engine.ask("POST", f"/containers/{name}/wait")
    gc = {"interval": "1secs", "max_age": "1secs", "container_age": "1secs",
          "excluded_images": ["house/kept", "house/tools*"], "excluded_containers": ["build-*"]}
    with Cluster(agent_flags=flags(engine, docker_gc=json.dumps(gc))):
        eventually("the old image is gone", lambda: "house/old:1" not in images())
        eventually("the old container is gone", lambda: all("/done" not in one["Names"] for one in engine.containers()))
        assert {"house/kept:1", "house/tools:1", "house/used:1"} <= images(), "kept by name, or in use"
        assert any("/build-1" in one["Names"] for one in engine.containers())
        engine.ask("DELETE", "/containers/build-1")
        eventually("nobody uses it any more", lambda: "house/used:1" not in images())
    # With room enough nothing goes; with too little, all that may.
    for headroom, left in ((0.0, True), (1.0, False)):
        engine.ask("POST", "/images/create?fromSrc=-&repo=house/room&tag=1&message=room", rootfs(), archive)
        rounds = {"interval": "1secs", "disk_headroom": headroom, "max_age": "1weeks",
                  "excluded_images": ["house/kept", "house/tools*"]}
        with Cluster(agent_flags=flags(engine, docker_gc=json.dumps(rounds))) as cluster:
            if left:
                noted = cluster.folder / "agent" / "docker" / "unused"
                eventually("a look", lambda: len(json.loads(noted.read_text())) > 0)
                assert "house/room:1" in images()
            else:
                eventually("room is made", lambda: "house/room:1" not in images())
                assert "house/kept:1" in images()


def test_what_ends_while_no_agent_runs_is_told_afterwards(engine):
    with Cluster(agent_flags=flags(engine)) as cluster:
        cmd = "until [ -e /mnt/mesos/sandbox/go ]; do sleep 0.1; done; echo last words; exit 3"
        with App(cluster, "ended", cmd, instances=1, backoffSeconds=3600) as app:
            eventually("a running task", app.running)
            cluster.agent_program.kill()
            (app.sandbox() / "go").touch()
            eventually("its end", lambda: not mine(engine, running=True))
            cluster.agent_program.start()

            def failure():
                failed = get(app.url)["app"].get("lastTaskFailure")
                return failed and failed["message"]

            assert eventually("its failure", failure) == "Container exited with status 3"
            eventually("its words", lambda: app.log() == b"last words\n")


def test_an_engine_without_live_restore_ends_its_tasks():
    with Engine(live_restore=False) as engine, Cluster(agent_flags=flags(engine)) as cluster:
        with App(cluster, "ended", "exec sleep 600", backoffSeconds=1) as app:
            before = eventually("a running task", app.running)["id"]
            engine.stop(signal.SIGTERM)
            engine.start()

            def another():
                task = app.running()
                return task and task["id"] != before

            eventually("another task instead", another, timeout=180)
            assert "Container exited with status" in get(app.url)["app"]["lastTaskFailure"]["message"]


class Plain(Tasks):
    """Tasks of our own runtime."""


def test_a_hanging_engine_is_told_and_blocks_nobody_else(engine):
    with Cluster(agent_flags=flags(engine, docker_timeout="30secs")) as cluster:
        with App(cluster, "patient", "exec sleep 600") as app:
            before = eventually("a running task", app.running)["id"]
            assert engine.process
            os.kill(engine.process.pid, signal.SIGSTOP)
            try:
                assert last(cluster, Plain(1, "true"))["state"] == "TASK_FINISHED"
                refused = last(cluster, Docker(1, "true"))
                assert (refused["state"], refused["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED")
                assert "did not answer in time: does it hang?" in refused["message"], refused
                assert last(cluster, Plain(1, "true"))["state"] == "TASK_FINISHED"
                # What it is asked meanwhile is answered without it.
                get(f"http://127.0.0.1:{cluster.agent_port}/containers", timeout=60)
            finally:
                os.kill(engine.process.pid, signal.SIGCONT)
            assert app.running()["id"] == before
            assert last(cluster, Docker(1, "true"))["state"] == "TASK_FINISHED"
        eventually("its end", lambda: not mine(engine, running=True))
