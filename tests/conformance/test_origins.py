"""Web pages: what a browser is made to send by a page of another site changes nothing, by whatever way it comes."""

import json
import urllib.error
import urllib.request

import pytest
from cluster import Cluster, eventually, free_port

JOB = {"id": "job", "run": {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": "true"}}
ELSEWHERE = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}


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
    agent_flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "router_port": agent}
    flags = {"router_port": port, "router_agent_port": agent, "without": "dns"}
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
