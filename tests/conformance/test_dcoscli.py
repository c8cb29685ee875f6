"""The unmodified PyPI client `dcoscli` 0.6.1, from before DC/OS had a CLI in Go, on a cluster of ours; and what it asks for, in its order,
where there is no Python 3.6 to run it with."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import Cluster, eventually, free_port

CLIENT = Path(sys.prefix) / "dcoscli" / "bin" / "dcos"
runs = pytest.mark.skipif(not CLIENT.exists(), reason="dcoscli 0.6.1 needs Python 3.6 (`tests/conformance/install.sh`)")
APP = {"id": "/old/app", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": 1}


@pytest.fixture(scope="module")
def url():
    """A cluster with a router, by its one URL."""
    port, agent = free_port(), free_port()
    agent_flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "router_port": agent}
    master_flags = {"router_port": port, "router_agent_port": agent, "without": ""}
    with Cluster(agent_flags=agent_flags, master_flags=master_flags):
        url = f"http://127.0.0.1:{port}"
        for service in ("marathon/v2/apps", "metronome/v1/jobs"):
            eventually(service, lambda path=service: ask(url, "GET", f"/service/{path}")[0] == 200)
        yield url


def ask(url, method, path, body=None, accept="application/json"):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Accept": accept, "Content-Type": "application/json", "Authorization": "token=x", "User-Agent": "dcos-cli/0.6.1"}
    request = urllib.request.Request(url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def dcos(url, tmp_path):
    # Its Python is another one, with packages of its own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"DCOS_DIR": str(tmp_path / "cli"), "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}

    def dcos(*words, code=0):
        done = subprocess.run([str(CLIENT), *words], env=environment, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stderr if code else done.stdout

    dcos("config", "set", "core.dcos_url", url)
    return dcos


@runs
def test_an_apps_life(dcos, tmp_path):
    def shown():
        return json.loads(dcos("marathon", "app", "show", "/old/app"))

    assert json.loads(dcos("marathon", "about"))["name"] == "marathon"
    file = tmp_path / "app.json"
    file.write_text(json.dumps(APP))
    assert dcos("marathon", "app", "add", str(file)).startswith("Created deployment")
    eventually("the task", lambda: shown()["tasksRunning"] == 1)
    eventually("the end of the deployment", lambda: "---" in dcos("marathon", "app", "list"))
    assert json.loads(dcos("marathon", "app", "list", "--json"))[0]["id"] == "/old/app"
    [task] = json.loads(dcos("marathon", "task", "list", "--json"))
    assert json.loads(dcos("marathon", "task", "show", task["id"]))["appId"] == "/old/app"
    dcos("marathon", "app", "update", "/old/app", "instances=2")
    eventually("the second task", lambda: shown()["tasksRunning"] == 2)
    eventually("the end of the deployment", lambda: "---" in dcos("marathon", "app", "list"))
    assert len(json.loads(dcos("marathon", "app", "version", "list", "/old/app"))) == 2
    dcos("marathon", "app", "restart", "/old/app")
    eventually("other tasks", lambda: task["id"] not in dcos("marathon", "task", "list") and shown()["tasksRunning"] == 2)
    dcos("marathon", "app", "stop", "--force", "/old/app")
    eventually("no task", lambda: shown()["tasksRunning"] == 0)
    dcos("marathon", "app", "remove", "--force", "/old/app")
    assert "/old/app" not in dcos("marathon", "app", "list")


@runs
def test_pods_groups_and_what_waits(dcos, tmp_path):
    pod = {"id": "/old-pod", "containers": [{"name": "a", "resources": {"cpus": 0.1, "mem": 32},
                                             "exec": {"command": {"shell": "sleep 1000"}}}]}
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod))
    dcos("marathon", "pod", "add", str(file))
    eventually("the pod", lambda: "STABLE" in dcos("marathon", "pod", "list"))
    assert json.loads(dcos("marathon", "pod", "show", "/old-pod"))["status"] == "STABLE"
    # A deployment is over a moment after its pod is well.
    dcos("marathon", "pod", "remove", "--force", "/old-pod")
    file.write_text(json.dumps({"id": "/old-group", "apps": [{**APP, "id": "a", "cpus": 1000}]}))
    dcos("marathon", "group", "add", str(file))
    assert "/old-group" in dcos("marathon", "group", "list")
    assert "/old-group/a" in dcos("marathon", "deployment", "list")
    eventually("what it waits for", lambda: "/old-group/a" in dcos("marathon", "debug", "list"))
    eventually("a reason", lambda: "0.00%" in dcos("marathon", "debug", "summary", "/old-group/a"))
    dcos("marathon", "group", "remove", "--force", "/old-group")


@runs
def test_the_clusters_own(dcos):
    nodes = json.loads(dcos("node", "--json"))
    assert {node["type"] for node in nodes if "type" in node} >= {"agent"}
    services = {"marathon", "metronome"}
    eventually("both services", lambda: {service["name"] for service in json.loads(dcos("service", "--json"))} >= services)
    # Those of other tests come to their ends.
    eventually("no task", lambda: json.loads(dcos("task", "--json")) == [])


@runs
def test_a_jobs_life(dcos, tmp_path):
    def given(document):
        file = tmp_path / "document.json"
        file.write_text(json.dumps(document))
        return str(file)

    def history(*more):
        return json.loads(dcos("job", "history", "old-job", "--json", *more))

    job = {"id": "old-job", "run": {"cmd": "true", "cpus": 0.1, "mem": 32}}
    nightly = {"id": "nightly", "cron": "0 2 * * *", "timezone": "Europe/Rome"}
    dcos("job", "add", given(job | {"schedules": [nightly]}))
    assert "old-job" in dcos("job", "list")
    assert json.loads(dcos("job", "list", "--json"))[0]["historySummary"]["successCount"] == 0
    assert json.loads(dcos("job", "show", "old-job"))["run"]["cmd"] == "true"
    dcos("job", "schedule", "update", "old-job", given(nightly | {"cron": "0 3 * * *"}))
    assert json.loads(dcos("job", "schedule", "show", "old-job", "--json"))[0]["cron"] == "0 3 * * *"
    dcos("job", "schedule", "remove", "old-job", "nightly")
    assert json.loads(dcos("job", "schedule", "show", "old-job", "--json")) == []
    run = json.loads(dcos("job", "run", "old-job", "--json"))["id"]
    eventually("the end of the run", lambda: [it["id"] for it in history()] == [run])
    assert run in dcos("job", "history", "old-job")
    job["run"] |= {"cmd": "sleep 1000", "disk": 0}
    dcos("job", "update", given(job))
    run = dcos("job", "run", "old-job").split()[-1]
    eventually("its task", lambda: json.loads(dcos("job", "show", "runs", "old-job", "--json"))[0]["status"] == "ACTIVE")
    assert run in dcos("job", "show", "runs", "old-job")
    dcos("job", "kill", "old-job", run)
    eventually("the end of the run", lambda: [it["id"] for it in history("--failures")] == [run])
    dcos("job", "remove", "old-job", "--stop-current-job-runs")
    assert dcos("job", "list", "--quiet").split() == []


@runs
@pytest.mark.parametrize("command", ["search", "list", "repo list", "describe marathon", "install --yes marathon"])
def test_there_are_no_packages_and_people_are_told(dcos, command):
    assert "no package management (Cosmos)" in dcos("package", *command.split(), code=1)


def test_what_the_cluster_can_do(url):
    kind = "application/vnd.dcos.capabilities+json;charset=utf-8;version=v1"
    request = urllib.request.Request(f"{url}/capabilities", headers={"Accept": kind, "Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["Content-Type"] == kind
        # There are no logs, no diagnostics and no packages to speak of.
        assert json.loads(response.read()) == {"capabilities": [{"name": "METRONOME"}]}
    status, body = ask(url, "POST", "/package/search", {"query": "x"})
    assert (status, json.loads(body)["type"]) == (404, "PackageManagementAbsent")


# Each command's requests, in order, as `dcos/marathon.py` and `dcoscli/marathon/main.py` of 0.6.1 send them.
SEQUENCES = {
    "marathon app list": ["GET /service/marathon/v2/apps", "GET /service/marathon/v2/deployments", "GET /service/marathon/v2/queue"],
    "marathon pod list": ["HEAD /service/marathon/v2/pods", "GET /service/marathon/v2/pods/::status", "GET /service/marathon/v2/queue"],
    "marathon group list": ["GET /service/marathon/v2/groups"],
    "marathon debug list": ["GET /service/marathon/v2/queue"],
    "marathon about": ["GET /service/marathon/v2/info"],
    "node --json": ["GET /mesos/master/state.json", "GET /mesos/master/state-summary"],
    "service --json": ["GET /mesos/master/state.json"],
    "job list": ["GET /capabilities", "GET /capabilities", "GET /service/metronome/v1/jobs?embed=activeRuns&embed=schedules&embed=historySummary"],
    "cluster setup": ["GET /metadata", "GET /mesos/state-summary"],
}


@pytest.mark.parametrize("command", SEQUENCES)
def test_what_it_asks_for_is_answered(url, command):
    for request in SEQUENCES[command]:
        method, path = request.split(" ")
        status, body = ask(url, method, path)
        assert status == 200, (request, body)
        if method == "GET":
            json.loads(body)
