"""Jobs, blocking and not."""

import asyncio
import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

import dcos


def job(name: str, cmd: str) -> dict:
    return {"id": f"python.{name}", "run": {"cmd": cmd, "cpus": 0.1, "mem": 32, "disk": 0}}


def test_a_jobs_life(cluster):
    made = cluster.add_job(job("life", "exit $CODE"))
    made.update({"run": {**job("life", "exit $CODE")["run"], "env": {"CODE": "0"}}})
    run = made.run()
    assert (run.job_id, run.ended) == ("python.life", False)
    ended = run.wait(timeout=180)
    assert ended.succeeded and ended.completed_at and ended.completed_at >= ended.created_at
    assert len(ended.tasks) == 1
    made.update({"run": {**job("life", "exit $CODE")["run"], "env": {"CODE": "3"}}})
    failed = made.run().wait(timeout=180)
    assert failed.ended and not failed.succeeded
    history = made.history()
    assert (history.success_count, history.failure_count) == (1, 1)
    assert [one.id for one in history.runs] == [failed.id, ended.id]
    assert history.last_success_at == ended.completed_at
    assert "python.life" in [one.id for one in cluster.jobs()]
    made.remove()
    with pytest.raises(dcos.NotFoundError):
        cluster.job("python.life")


def test_schedules(cluster):
    made = cluster.add_job(job("scheduled", "true"), schedule=dcos.Schedule("yearly", "0 3 1 1 *", "Europe/Rome"))
    (schedule,) = made.schedules()
    assert (schedule.id, schedule.timezone, schedule.enabled) == ("yearly", "Europe/Rome", True)
    assert schedule.next_run_at and schedule.next_run_at > datetime.now(UTC)
    changed = made.schedule(dcos.Schedule("yearly", "0 4 1 1 *", enabled=False))
    assert (changed.cron, changed.timezone, changed.enabled) == ("0 4 1 1 *", "UTC", False)
    made.unschedule("yearly")
    assert made.schedules() == []
    with pytest.raises(dcos.NotFoundError):
        made.unschedule("yearly")
    made.remove()


def test_async_twins(cluster):
    async def script():
        made = await cluster.add_job_async(job("async", "sleep 600"))
        run = await made.run_async()
        with pytest.raises(dcos.RunTimeoutError):
            await run.wait_async(timeout=0)
        assert [one.id for one in await made.runs_async()] == [run.id]
        await run.stop_async()
        assert not (await run.wait_async(timeout=180)).succeeded
        await made.remove_async(stop_runs=True)
        assert "python.async" not in [one.id for one in await cluster.jobs_async()]

    asyncio.run(script())


class Endless(http.server.BaseHTTPRequestHandler):
    """A run that never ends, and a deployment that never does; counts who asks."""

    asked = 0

    def do_GET(self):
        Endless.asked += 1
        run = {"id": "r", "jobId": "j", "status": "ACTIVE", "createdAt": "2026-01-01T00:00:00.000+00:00", "tasks": []}
        deployment = {"id": "d", "affectedApps": ["/a"], "currentStep": 1, "totalSteps": 2}
        body = json.dumps([deployment] if "deployments" in self.path else run).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def endless():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield dcos.connect(url, marathon=url, metronome=url)
        server.shutdown()


def test_a_wait_that_is_cancelled_has_ended_and_waits_hold_no_threads(endless):
    run = dcos.JobRun("r", "j", "ACTIVE", datetime.now(UTC), None, (), endless)
    app = dcos.App(endless, "/a")

    async def script():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
        with pytest.raises(dcos.RunTimeoutError):
            await run.wait_async(timeout=0)
        with pytest.raises(dcos.DeploymentError):
            await app.wait_async(timeout=0)
        waits = [asyncio.create_task(one.wait_async()) for one in (run, app) for _ in range(4)]
        seen = Endless.asked
        # With one thread for all of them each is heard, and others are too.
        while Endless.asked < seen + 3 * len(waits):
            await asyncio.sleep(0.01)
        assert (await run.refresh_async()).status == "ACTIVE"
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert all(wait.cancelled() for wait in waits)

    # Returns only when no thread of the loop's pool works any more.
    asyncio.run(script())


def test_errors_say_what_is_wrong(cluster):
    made = cluster.add_job(job("twice", "true"))
    with pytest.raises(dcos.ApiError) as refusal:
        cluster.add_job(job("twice", "true"))
    assert refusal.value.status == 409
    with pytest.raises(dcos.ApiError) as refusal:
        made.schedule(dcos.Schedule("never", "0 0 31 2 *"))
    assert refusal.value.status == 422
    made.remove()
    with pytest.raises(dcos.ApiError) as refusal:
        cluster.add_job(job("never", "true"), schedule=dcos.Schedule("never", "0 0 31 2 *"))
    assert refusal.value.status == 422
    with pytest.raises(dcos.NotFoundError):
        cluster.job("python.never")
