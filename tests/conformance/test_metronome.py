"""Metronome's REST API and `dcos job` on a whole cluster: runs as tasks, schedules, refusals, and a crash between."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request

import pytest
from cluster import Cluster, binary, eventually

JSON = {"Content-Type": "application/json"}


class Api:
    """Requests to a Metronome."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __call__(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.cluster.metronome + path, data, JSON, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")

    def refused(self, method, path, body=None):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            self(method, path, body)
        return refusal.value.code, json.loads(refusal.value.read())

    def job(self, job_id, **fields):
        """A small job; `run_cmd` is its `run.cmd`."""
        run = {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": "true"}
        run |= {key[4:]: fields.pop(key) for key in list(fields) if key.startswith("run_")}
        return self("POST", "/v1/jobs", {"id": job_id, "run": run, **fields})

    def history(self, job_id):
        return self("GET", f"/v1/jobs/{job_id}?embed=history")["history"]

    def ended(self, job_id, well=1, badly=0):
        def counts():
            history = self.history(job_id)
            return (history["successCount"], history["failureCount"]) == (well, badly) and history

        return eventually(f"the end of {job_id}", counts)


@pytest.fixture(scope="module")
def jobs():
    with Cluster(master_flags={"without": "dns"}) as cluster:
        yield cluster


@pytest.fixture
def api(jobs):
    api = Api(jobs)
    eventually("Metronome's answer", lambda: api("GET", "/v1/jobs") is not None)
    yield api
    left = {job["id"]: [parent["id"] for parent in job["dependencies"]] for job in api("GET", "/v1/jobs")}
    for job_id in sorted(left, key=lambda job_id: not left[job_id]):
        api("DELETE", f"/v1/jobs/{job_id}?stopCurrentJobRuns=true")


def log(api, task):
    """What a task wrote to its standard output."""
    files = list(api.cluster.folder.glob(f"agent/**/executors/{task}/runs/*/stdout"))
    return files[0].read_text() if files else ""


def test_a_run_is_a_task(api):
    api.job("prod.hello", run_cmd='echo "$GREETING of $MARATHON_APP_ID"', run_env={"GREETING": "hello"})
    run = api("POST", "/v1/jobs/prod.hello/runs")
    assert run["status"] == "INITIAL" and run["jobId"] == "prod.hello" and run["tasks"] == []
    history = api.ended("prod.hello")
    [ended] = history["successfulFinishedRuns"]
    assert ended["id"] == run["id"] and ended["createdAt"].endswith("+0000")
    [task] = ended["tasks"]
    assert task.startswith(f"prod_hello_{run['id']}.instance-")
    eventually("what it said", lambda: f"hello of /prod/hello/{run['id']}" in log(api, task))
    assert api("GET", "/v1/jobs/prod.hello/runs") == []
    status, body = api.refused("GET", f"/v1/jobs/prod.hello/runs/{run['id']}")
    assert (status, body) == (404, {"message": "Job Run not found", "jobSpec": "prod.hello", "id": run["id"]})


def test_failures_and_restarts(api):
    api.job("bad", run_cmd="exit 3")
    api("POST", "/v1/jobs/bad/runs")
    api.ended("bad", 0, 1)
    # Fails until somebody was there before.
    flag = api.cluster.folder / "was-here"
    api.job("stubborn", run_cmd=f"test -e {flag} || {{ touch {flag}; exit 1; }}", run_restart={"policy": "ON_FAILURE"})
    api("POST", "/v1/jobs/stubborn/runs")
    history = api.ended("stubborn")
    assert len(history["successfulFinishedRuns"][0]["tasks"]) == 2


def test_stopping_a_run(api):
    api.job("long", run_cmd="exec sleep 600")
    run = api("POST", "/v1/jobs/long/runs")["id"]

    def active():
        return api("GET", f"/v1/jobs/long/runs/{run}")["status"] == "ACTIVE"

    eventually("the run", active)
    assert api.refused("DELETE", "/v1/jobs/long")[0] == 409
    stopped = api("POST", f"/v1/jobs/long/runs/{run}/actions/stop")
    assert stopped["status"] == "FAILED" and stopped["completedAt"]
    api.ended("long", 0, 1)

    def gone():
        with urllib.request.urlopen(f"http://{api.cluster.master}/tasks", timeout=60) as answer:
            tasks = json.load(answer)["tasks"]
        return any(t["id"].startswith("long_") and t["state"] == "TASK_KILLED" for t in tasks)

    eventually("the end of its task", gone)


def test_what_waits_is_in_the_queue(api):
    api.job("huge", run_cpus=1000)
    run = api("POST", "/v1/jobs/huge/runs")["id"]
    eventually("the queue", lambda: api("GET", "/v1/queue") == [{"jobId": "huge", "runs": [{"runId": run}]}])
    eventually("its start", lambda: api("GET", "/v1/jobs/huge?embed=activeRuns")["activeRuns"][0]["status"] == "STARTING")


def test_children_run_after_their_parents(api):
    api.job("parent")
    api.job("child", dependencies=[{"id": "parent"}])
    api("POST", "/v1/jobs/parent/runs")
    api.ended("child")
    assert api.refused("DELETE", "/v1/jobs/parent")[0] == 409


def test_a_long_list_comes_in_pieces_and_is_whole(api):
    names = [f"many-{at:03}" for at in range(150)]
    for name in names:
        api.job(name)
    with urllib.request.urlopen(f"{api.cluster.metronome}/v1/jobs?embed=historySummary", timeout=60) as response:
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Content-Length"] is None
        listed = json.load(response)
    assert [job["id"] for job in listed] == names
    assert all(job["historySummary"]["successCount"] == 0 for job in listed)


def test_schedules(api):
    api.job("nightly")
    path = "/v1/jobs/nightly/schedules"
    made = api("POST", path, {"id": "night", "cron": "20 0 * * *", "timezone": "Europe/Rome"})
    assert made["nextRunAt"][10:] in ("T22:20:00.000+0000", "T23:20:00.000+0000")
    assert api("GET", path) == [made] == api("GET", "/v1/jobs/nightly")["schedules"]
    assert api.refused("POST", path, {"id": "other", "cron": "* * * * *"})[0] == 409
    changed = api("PUT", f"{path}/night", {"id": "ignored", "cron": "0 1 L * *", "enabled": False})
    assert (changed["id"], changed["cron"]) == ("night", "0 1 L * *")
    assert api.refused("PUT", f"{path}/day", changed) == (404, {"message": "Schedule not found", "id": "day"})
    # A change of the job leaves its schedule alone, the old API's does not.
    job = api("GET", "/v1/jobs/nightly")
    job |= {"description": "new", "schedules": []}
    assert api("PUT", "/v1/jobs/nightly", job)["schedules"][0]["id"] == "night"
    assert api("PUT", "/v0/scheduled-jobs/nightly", job)["schedules"] == []
    api("PUT", "/v0/scheduled-jobs/nightly", job | {"schedules": [changed]})
    assert api("DELETE", f"{path}/night") is None
    assert api("GET", path) == []


def test_refusals(api):
    api.job("known")
    assert api.refused("GET", "/v1/jobs/unknown") == (404, {"message": "Job not found", "id": "unknown"})
    # What came from outside cannot be taken for HTML.
    assert api.refused("GET", "/no/'b'") == (404, {"message": "Unknown route.", "requestPath": "/no/&#x27;b&#x27;"})
    assert api.refused("GET", "/v1/jobs/NO") == (400, {"message": "Not a valid id: NO", "requestPath": "/v1/jobs/NO"})
    status, body = api.refused("GET", "/v1/jobs?embed=all")
    assert status == 400 and body["message"].startswith("Unknown embed options. Valid options are:")
    run = {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": "true"}
    status, body = api.refused("POST", "/v1/jobs", {"id": "known", "run": run})
    assert (status, body) == (409, {"message": "Job with this id already exists"})
    status, body = api.refused("POST", "/v1/jobs", {"id": "x", "run": run | {"mem": 1, "what": 1}})
    assert (status, body["message"]) == (422, "Object is not valid")
    assert [detail["path"] for detail in body["details"]] == ["/run", "/run/mem"]
    status, body = api.refused("POST", "/v1/jobs", {"id": "x", "run": run, "dependencies": [{"id": "nobody"}]})
    assert (status, body) == (422, {"message": "Dependencies contain unknown jobs. unknown=[nobody]"})


def test_who_is_asked(api):
    with urllib.request.urlopen(api.cluster.metronome + "/ping", timeout=60) as answer:
        assert answer.read() == b"pong"
    assert api("GET", "/leader") == {"leader": f"127.0.0.1:{api.cluster.metronome_port}"}
    assert api("GET", "/info")["version"]
    metrics = api("GET", "/v1/metrics")
    assert metrics["counters"]["metronome.jobs.started.counter"]["count"] >= 0
    timer = metrics["timers"]["metronome.http.requests.get.duration.timer.seconds"]
    with urllib.request.urlopen(api.cluster.metronome + "/metrics", timeout=60) as answer:
        assert b"\n# TYPE metronome_jobs_started_counter counter\n" in answer.read()
    assert timer["count"] > 0 and 0 < timer["min"] <= timer["p50"] <= timer["max"]


def test_the_command_line(api, tmp_path):
    def dcos(*words, given=None):
        env = {**os.environ, "DCOS_DIR": str(tmp_path), "DCOS_METRONOME_URL": api.cluster.metronome}
        done = subprocess.run([binary("dcos"), "job", *words], env=env, input=given, text=True, capture_output=True,
                              timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    definition = {"id": "cli", "run": {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": "true"}}
    dcos("add", given=json.dumps(definition))
    dcos("update", given=json.dumps(definition | {"description": "changed"}))
    assert json.loads(dcos("show", "cli"))["description"] == "changed"
    dcos("schedule", "add", "cli", given=json.dumps({"id": "yearly", "cron": "0 0 1 1 *"}))
    assert "yearly" in dcos("schedule", "show", "cli")
    assert "Scheduled" in dcos("list") and dcos("list", "--quiet").split() == ["cli"]
    run = json.loads(dcos("run", "cli", "--json"))["id"]
    api.ended("cli")
    assert run in dcos("history", "cli") and json.loads(dcos("history", "cli", "--json"))["successCount"] == 1
    dcos("update", given=json.dumps(definition | {"run": definition["run"] | {"cpus": 1000}}))
    dcos("run", "cli")
    eventually("its start", lambda: "cli" in dcos("queue") and "STARTING" in dcos("show", "runs", "cli"))
    dcos("kill", "cli", "--all")
    dcos("schedule", "remove", "cli", "yearly")
    dcos("remove", "cli")
    assert json.loads(dcos("list", "--json")) == []


def test_a_crash_of_the_master_loses_and_repeats_nothing(api):
    """kill -9 while one run goes on, one waits and one has ended."""
    api.job("done")
    api("POST", "/v1/jobs/done/runs")
    api.ended("done")
    go = api.cluster.folder / "go"
    api.job("going", run_cmd=f"until test -e {go}; do sleep 0.1; done", schedules=[{"id": "s", "cron": "0 0 1 1 *"}])
    going = api("POST", "/v1/jobs/going/runs")["id"]
    eventually("the run", lambda: api("GET", f"/v1/jobs/going/runs/{going}")["status"] == "ACTIVE")
    api.job("waiting", run_cpus=1000)
    waiting = api("POST", "/v1/jobs/waiting/runs")["id"]
    eventually("its start", lambda: api("GET", f"/v1/jobs/waiting/runs/{waiting}")["status"] == "STARTING")
    before = {job["id"]: job for job in api("GET", "/v1/jobs?embed=activeRuns&embed=history")}

    api.cluster.master_program.stop(signal.SIGKILL)
    api.cluster.master_program.start()

    def back():
        try:
            return api("GET", "/v1/jobs?embed=activeRuns&embed=history")
        except OSError:
            return None

    after = {job["id"]: job for job in eventually("Metronome's return", back)}
    assert after == before
    eventually("the queue", lambda: api("GET", "/v1/queue") == [{"jobId": "waiting", "runs": [{"runId": waiting}]}])
    go.touch()
    history = api.ended("going")
    assert len(history["successfulFinishedRuns"][0]["tasks"]) == 1, "the same task, not another one"
