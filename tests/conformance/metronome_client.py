"""What a program does with the PyPI client `dcos-metronome` 0.3.0: the life of a job, `metronome_client.py URL`.

The client is as it comes, but that it reads answers with fields it does not know: it is from 2017, when jobs had fewer.
"""

import functools
import sys
import time

import metronome.client as client
from google.protobuf.json_format import Parse
from metronome import JobSpec, MetronomeClient, MetronomeHttpError, NotFoundError
from metronome.models import JobRun, ScheduleSpec

client.Parse = functools.partial(Parse, ignore_unknown_fields=True)


def eventually(what, check):
    for _ in range(300):
        if found := check():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited in vain for {what}")


def refused(kind, call, *args):
    try:
        call(*args)
    except kind as refusal:
        return refusal
    raise AssertionError(f"{call} {args} was not refused")


def main(url):
    api = MetronomeClient([url])
    assert api.ping() == "pong"

    job = JobSpec(id="pypi.job", description="a small one", labels={"kind": "test"})
    job.run.cpus, job.run.mem, job.run.cmd = 0.1, 32, "sleep 600"
    job.run.disk.value = 0
    created = api.create_job(job)
    assert (created.id, created.run.cmd, created.labels["kind"]) == ("pypi.job", "sleep 600", "test")
    assert refused(MetronomeHttpError, api.create_job, job).status_code == 409
    assert [known.id for known in api.list_jobs(active_runs=True, schedules=True, history=True)] == ["pypi.job"]

    run = api.run_job("pypi.job")
    assert run.status in (JobRun.INITIAL, JobRun.STARTING), run
    eventually("the run", lambda: api.get_run("pypi.job", run.id).status == JobRun.ACTIVE)
    assert [known.id for known in api.list_runs("pypi.job")] == [run.id]
    assert refused(MetronomeHttpError, api.delete_job, "pypi.job").status_code == 409
    assert api.stop_run("pypi.job", run.id).status_code == 200
    eventually("its end", lambda: api.list_runs("pypi.job") == [])
    refused(NotFoundError, api.get_run, "pypi.job", run.id)

    job.run.cmd = "true"
    assert api.update_job("pypi.job", job).run.cmd == "true"
    schedule = ScheduleSpec(id="nightly", cron="0 3 * * *", timezone="UTC", concurrencyPolicy=ScheduleSpec.ALLOW)
    schedule.startingDeadlineSeconds = 60
    created = api.create_schedule("pypi.job", schedule)
    assert (created.id, created.cron, created.nextRunAt != "") == ("nightly", "0 3 * * *", True)
    schedule.cron, schedule.enabled = "0 4 * * *", True
    assert api.update_schedule("pypi.job", "nightly", schedule).cron == "0 4 * * *"
    assert [known.cron for known in api.list_schedules("pypi.job")] == ["0 4 * * *"]
    assert api.get_schedule("pypi.job", "nightly").startingDeadlineSeconds == 60
    assert api.delete_schedule("pypi.job", "nightly").status_code == 200
    refused(NotFoundError, api.get_schedule, "pypi.job", "nightly")

    assert api.delete_job("pypi.job", stop_current_job_runs=True).status_code == 200
    refused(NotFoundError, api.get_job, "pypi.job")


if __name__ == "__main__":
    main(sys.argv[1])
