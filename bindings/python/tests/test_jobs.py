"""Jobs, blocking and not."""

import asyncio
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
    ended = run.wait(timeout=60)
    assert ended.succeeded and ended.completed_at and ended.completed_at >= ended.created_at
    assert len(ended.tasks) == 1
    made.update({"run": {**job("life", "exit $CODE")["run"], "env": {"CODE": "3"}}})
    failed = made.run().wait(timeout=60)
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
        assert not (await run.wait_async(timeout=60)).succeeded
        await made.remove_async(stop_runs=True)
        assert "python.async" not in [one.id for one in await cluster.jobs_async()]

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
