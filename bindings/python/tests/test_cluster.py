"""Scripting a cluster, as the README shows it."""

import asyncio
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from waiting import until

import dcos

APP = {"id": "/python/sleeper", "cmd": "echo hello from $MESOS_TASK_ID; sleep 600", "cpus": 0.1, "mem": 32}


def test_an_apps_life(cluster):
    app = cluster.deploy({**APP, "instances": 1}).wait(timeout=180)
    assert repr(app) == "App(id='/python/sleeper')"
    assert len(app.tasks()) == 1
    app.scale(3).wait(timeout=180)
    tasks = app.tasks()
    assert len(tasks) == 3
    assert "/python/sleeper" in [a.id for a in cluster.apps()]

    running = {task.id: task for task in cluster.tasks()}
    first = running[tasks[0]["id"]]
    assert first.state == "TASK_RUNNING"
    # It runs before it speaks.
    until("its word", first.log)
    assert first.log() == f"hello from {first.id}\n"
    assert first.read(offset=6, length=4) == b"from"
    assert next(first.follow()).startswith(b"hello")

    app.remove().wait(timeout=180)
    with pytest.raises(dcos.NotFoundError):
        cluster.app("/python/sleeper")


def test_async_twins(cluster):
    async def script():
        app = await cluster.deploy_async({**APP, "id": "/python/async"})
        await app.wait_async(timeout=180)
        ids = [a.id for a in await cluster.apps_async()]
        assert "/python/async" in ids
        await (await app.remove_async()).wait_async(timeout=180)

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
            app.remove(force=True).wait(timeout=180)


def test_a_token_is_shown_to_every_server(monkeypatch):
    seen = []
    monkeypatch.delenv("DCOS_ACS_TOKEN", raising=False)

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"apps": [], "slaves": []}')

        def log_message(self, format, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Recorder) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with_secret = url.replace("://", "://ops:secret@")
        for cluster in (dcos.connect(url, marathon=url, token="a.b.c"), dcos.connect(url, marathon=url)):
            cluster.agents()
            cluster.apps()
            monkeypatch.setenv("DCOS_ACS_TOKEN", "d.e.f\n")
        dcos.connect(url, marathon=url).agents()
        dcos.connect(with_secret, marathon=url).agents()
        server.shutdown()
    assert seen == ["Bearer a.b.c"] * 2 + [None] * 2 + ["Bearer d.e.f", "Basic b3BzOnNlY3JldA=="]
    with pytest.raises(ValueError, match="token"):
        dcos.connect(token="a\nb").agents()
