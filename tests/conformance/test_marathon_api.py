"""Marathon's REST API on a whole cluster: health, rolling upgrades, reasons, and a crash half-way."""

import json
import urllib.error
import urllib.request

import pytest
from cluster import eventually


class Api:
    """Requests to a Marathon."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __call__(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.cluster.marathon + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")

    def app(self, app_id):
        return self("GET", f"/v2/apps{app_id}")["app"]

    def idle(self, timeout=180):
        eventually("the end of deployments", lambda: self("GET", "/v2/deployments") == [], timeout)


@pytest.fixture
def api(cluster):
    api = Api(cluster)
    eventually("Marathon's answer", lambda: api("GET", "/v2/apps"))
    yield api
    api("DELETE", "/v2/groups?force=true")
    api.idle()


def web(app_id, *checks, instances=1):
    return {
        "id": app_id, "cmd": "exec python3 -m http.server $PORT0", "cpus": 0.1, "mem": 64,
        "instances": instances,
        "healthChecks": [
            {"portIndex": 0, "intervalSeconds": 1, "delaySeconds": 1, "gracePeriodSeconds": 60, **check}
            for check in checks
        ],
    }


def test_every_kind_of_health_check(api):
    api("POST", "/v2/apps", web("/by-marathon", {"protocol": "HTTP", "path": "/"}, {"protocol": "TCP"}))
    api("POST", "/v2/apps", web("/by-mesos", {"protocol": "MESOS_HTTP", "path": "/"}))
    api("POST", "/v2/apps", web("/by-mesos-tcp", {"protocol": "MESOS_TCP"}))
    command = {"protocol": "COMMAND", "command": {"value": "test -d /tmp"}}
    api("POST", "/v2/apps", web("/by-command", command))
    # A deployment ends once the new instances are healthy.
    api.idle()
    for app_id in ("/by-marathon", "/by-mesos", "/by-mesos-tcp", "/by-command"):
        assert api.app(app_id)["tasksHealthy"] == 1, app_id


def test_an_upgrade_never_serves_less(api):
    api("POST", "/v2/apps", web("/web", {"protocol": "HTTP", "path": "/"}, instances=2))
    api.idle()
    before = {task["id"] for task in api.app("/web")["tasks"]}
    api("PUT", "/v2/apps/web", {"env": {"VERSION": "2"}})
    least = 2
    while api("GET", "/v2/deployments"):
        least = min(least, api.app("/web")["tasksHealthy"])
    assert least == 2
    assert not before & {task["id"] for task in api.app("/web")["tasks"]}


def test_why_is_it_waiting(api):
    api("POST", "/v2/apps", {"id": "/huge", "cmd": "sleep 600", "cpus": 1000, "mem": 16})
    api("POST", "/v2/apps", {"id": "/bad", "cmd": "exit 3", "cpus": 0.1, "mem": 16, "backoffSeconds": 60})

    def refused():
        items = {item["app"]["id"]: item for item in api("GET", "/v2/queue")["queue"]}
        steps = items["/huge"]["processedOffersSummary"]["rejectSummaryLastOffers"]
        return [step["reason"] for step in steps if step["declined"]]

    eventually("a refusal", lambda: refused() == ["InsufficientCpus"])
    failure = eventually("a failure", lambda: api.app("/bad").get("lastTaskFailure"))
    assert (failure["state"], failure["appId"]) == ("TASK_FAILED", "/bad")
    waiting = [item for item in api("GET", "/v2/queue")["queue"] if item["app"]["id"] == "/bad"]
    assert waiting[0]["delay"]["overdue"] is False


def test_a_locked_app(api):
    api("POST", "/v2/apps", {"id": "/huge", "cmd": "sleep 600", "cpus": 1000, "mem": 16})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        api("PUT", "/v2/apps/huge", {"cpus": 0.1})
    assert refusal.value.code == 409
    api("PUT", "/v2/apps/huge?force=true", {"cpus": 0.1})
    api.idle()


def test_a_crash_half_way_through_an_upgrade(api, cluster):
    app = {"id": "/many", "cmd": "sleep 600", "cpus": 0.01, "mem": 1, "instances": 20}
    api("POST", "/v2/apps", app)
    api.idle()
    before = {task["id"] for task in api.app("/many")["tasks"]}
    api("PUT", "/v2/apps/many", {"cmd": "sleep 601"})
    cluster.master_program.kill()
    cluster.master_program.start()
    eventually("Marathon's answer", lambda: api("GET", "/v2/apps"))
    api.idle()
    after = {task["id"] for task in api.app("/many")["tasks"]}
    assert len(after) == 20
    assert not before & after

    def running():
        return {task["id"] for framework in cluster.state()["frameworks"] for task in framework["tasks"]}

    # An end that Marathon has not acknowledged yet is still among them.
    eventually("nothing launched twice and nothing forgotten", lambda: running() == after)


def test_documents_of_another_type_are_refused(cluster, api):
    """A page of another site can have a browser send those without a question before (Marathon: `@Consumes`)."""
    body = json.dumps({"id": "/other", "cmd": "sleep 1", "instances": 0}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        request = urllib.request.Request(cluster.marathon + "/v2/apps", body, {"Content-Type": kind}, method="POST")
        with pytest.raises(urllib.error.HTTPError, match="415"):
            urllib.request.urlopen(request, timeout=60)
    assert api("GET", "/v2/apps") == {"apps": []}
