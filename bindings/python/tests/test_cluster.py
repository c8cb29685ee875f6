"""Scripting a cluster, as the README shows it."""

import asyncio

import pytest

import dcos

APP = {"id": "/python/sleeper", "cmd": "echo hello from $MESOS_TASK_ID; sleep 600", "cpus": 0.1, "mem": 32}


def test_an_apps_life(cluster):
    app = cluster.deploy({**APP, "instances": 1}).wait(timeout=60)
    assert repr(app) == "App(id='/python/sleeper')"
    assert len(app.tasks()) == 1
    app.scale(3).wait(timeout=60)
    tasks = app.tasks()
    assert len(tasks) == 3
    assert "/python/sleeper" in [a.id for a in cluster.apps()]

    running = {task.id: task for task in cluster.tasks()}
    first = running[tasks[0]["id"]]
    assert first.state == "TASK_RUNNING"
    assert first.log() == f"hello from {first.id}\n"
    assert first.read(offset=6, length=4) == b"from"
    assert next(first.follow()).startswith(b"hello")

    app.remove().wait(timeout=60)
    with pytest.raises(dcos.NotFoundError):
        cluster.app("/python/sleeper")


def test_async_twins(cluster):
    async def script():
        app = await cluster.deploy_async({**APP, "id": "/python/async"})
        await app.wait_async(timeout=60)
        ids = [a.id for a in await cluster.apps_async()]
        assert "/python/async" in ids
        await (await app.remove_async()).wait_async(timeout=60)

    asyncio.run(script())


def test_agents(cluster):
    (agent,) = cluster.agents()
    assert agent.active and agent.cpus > 0 and agent.mem > 0


def test_why_says_what_keeps_offers_away(cluster):
    (told,) = cluster.why("marathon", resources={"cpus": 100000})
    assert told.framework_name == "marathon"
    assert sum(reason.count for reason in told.reasons) == len(cluster.agents())
    with pytest.raises(dcos.NotFoundError):
        cluster.why("nobody")


def test_errors_say_what_is_wrong(cluster):
    with pytest.raises(dcos.ApiError) as refusal:
        cluster.deploy({"id": "/Bad_Name", "cmd": "true"})
    assert refusal.value.status == 422
    with pytest.raises(dcos.UnreachableError):
        dcos.connect("http://127.0.0.1:1").agents()
    with pytest.raises(dcos.DeploymentError):
        app = cluster.deploy({**APP, "id": "/python/huge", "cpus": 100000})
        try:
            app.wait(timeout=1)
        finally:
            app.remove(force=True).wait(timeout=60)
