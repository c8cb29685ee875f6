"""Web pages: what a browser is made to send by a page of another site changes nothing, by whatever way it comes."""

import json
import urllib.error
import urllib.request

import pytest
from cluster import Cluster, eventually, free_port

JOB = {"id": "job", "run": {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": "true"}}
ELSEWHERE = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}

UI = "https://ui.example"


def ask(url, method="GET", body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers if body else headers
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def cluster():
    port, agent = free_port(), free_port()
    agent_flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "router_port": agent,
                   "http_allowed_origins": UI}
    flags = {"router_port": port, "router_agent_port": agent, "without": "dns", "http_allowed_origins": UI}
    with Cluster(agent_flags=agent_flags, master_flags=flags) as cluster:
        cluster.router = f"http://127.0.0.1:{port}"
        eventually("Metronome", lambda: ask(f"{cluster.router}/service/metronome/v1/jobs") == 200)
        yield cluster


def test_pages_of_other_sites(cluster):
    assert ask(f"{cluster.metronome}/v1/jobs", "POST", JOB) == 201
    direct, routed = cluster.metronome, f"{cluster.router}/service/metronome"
    for base, own in ((direct, cluster.metronome), (routed, cluster.router)):
        run = f"{base}/v1/jobs/job/runs"
        assert ask(run, "POST", **ELSEWHERE) == 403
        assert ask(run, "POST", Origin="http://elsewhere.example") == 403
        assert ask(run, "GET", **ELSEWHERE) == 200
        # The service's own pages, and who is no browser.
        assert ask(run, "POST", Origin=own) == 201
        assert ask(run, "POST", **{"Origin": own, "Sec-Fetch-Site": "same-origin"}) == 201
        assert ask(run, "POST") == 201
    assert ask(f"{cluster.marathon}/v2/groups?force=true", "DELETE", **ELSEWHERE) == 403


def test_master_agent_and_router(cluster):
    """A form that a page has a browser send; a POST that stands for it is understood, and refused for what it lacks."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    agent_id = cluster.agents()[0]["id"]
    master, agent, router = f"http://{cluster.master}", f"http://127.0.0.1:{cluster.agent_port}", cluster.router
    for base, path in (
        (master, "/teardown"), (master, "/master/teardown"), (router, "/mesos/teardown"),
        (agent, "/api/v1"), (agent, "/slave(1)/api/v1"), (agent, "/api/v1/executor"),
        (agent, "/slave(1)/api/v1/executor"), (router, f"/agent/{agent_id}/api/v1"),
        (router, "/service/marathon/v2/tasks/delete"), (router, "/marathon/v2/tasks/delete"),
    ):
        url = base + path
        assert ask(url, "POST", **form, **ELSEWHERE) == 403, url
        assert ask(url, "POST", **form, Origin="null") == 403, url
        for told in ({}, {"Origin": base}, {"Origin": UI}):
            assert ask(url, "POST", **form, **told) in (400, 415, 422), (url, told)
    for url in (f"{master}/logging/toggle", f"{agent}/logging/toggle", f"{router}/mesos/logging/toggle"):
        assert ask(f"{url}?level=1&duration=1secs", **ELSEWHERE) == 403
        assert ask(f"{url}?level=1&duration=1secs", Origin=UI) == 200
    # A WebSocket to a service, which there is none of; not even that is said.
    socket = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert ask(f"{router}/service/nobody/", **socket, Origin="http://elsewhere.example") == 403
    assert ask(f"{router}/service/nobody/", **socket, Origin=router) == 404
