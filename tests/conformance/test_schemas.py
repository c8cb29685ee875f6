"""The check of answers against schemas bites: each kind of deviation is found, in whatever client reads the answer."""

import gzip
import http.client
import http.server
import json
import threading
import urllib.request

import jsonschema
import pytest
import requests
import schemas

APP = {
    "id": "/a", "cmd": "sleep 1", "backoffFactor": 1.15, "backoffSeconds": 1, "cpus": 1, "disk": 0, "executor": "", "gpus": 0,
    "instances": 1, "killSelection": "YOUNGEST_FIRST", "maxLaunchDelaySeconds": 300, "mem": 128,
    "networks": [{"mode": "host"}], "requirePorts": False, "role": "*", "version": "2026-11-22T10:00:00.000Z",
    "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
    "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
}
QUEUE = {"queue": [{
    "app": APP, "count": 1, "role": "*", "since": "2026-11-22T10:00:00.000Z",
    "delay": {"timeLeftSeconds": 0, "overdue": True},
    "processedOffersSummary": {"processedOffersCount": 0, "unusedOffersCount": 0},
}]}


@pytest.mark.parametrize("service", ["marathon", "metronome"])
def test_the_schemas_are_schemas(service):
    jsonschema.Draft202012Validator.check_schema(schemas.schema(service))
    for _, _, kind in schemas.ROUTES[service]:
        if isinstance(kind, str):
            assert kind in schemas.schema(service)["$defs"]


def test_every_deviation_is_found():
    def faults(answer):
        return schemas.faults("marathon", "GET", "/v2/queue", 200, answer)

    assert faults(QUEUE) == []
    [item] = QUEUE["queue"]
    missing = {key: value for key, value in item.items() if key != "since"}
    less = {key: value for key, value in APP.items() if key != "instances"}
    for wrong in (
        missing, {**item, "count": "1"}, {**item, "more": 1}, {**item, "since": "yesterday"}, {**item, "app": less},
        {**item, "app": {**APP, "cpus": -1}},
    ):
        assert faults({"queue": [wrong]}), wrong


def test_an_app_tells_how_its_tasks_are_unless_something_else_is_asked_for():
    counts = {"tasksStaged": 0, "tasksRunning": 1, "tasksHealthy": 0, "tasksUnhealthy": 0, "deployments": []}
    for query, told, wrong in [("", counts, False), ("", {}, True), ("?embed=app.tasks", {}, False)]:
        found = schemas.faults("marathon", "GET", "/v2/apps/a" + query, 200, {"app": {**APP, **told}})
        assert bool(found) == wrong, found


def test_errors_have_their_form_too():
    assert schemas.faults("marathon", "GET", "/v2/apps/x", 404, {"message": "App '/x' does not exist"}) == []
    assert schemas.faults("marathon", "GET", "/v2/apps/x", 404, {"error": "App '/x' does not exist"})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"leader": 5}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_header("Content-Encoding", "gzip")
            body = gzip.compress(body)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def by_urllib(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/leader", timeout=60) as answer:
        answer.read()


def by_requests(port):
    requests.get(f"http://127.0.0.1:{port}/v2/leader", timeout=60).json()


def by_hand(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/v2/leader")
    answer = connection.getresponse()
    while answer.read(3):
        pass


@pytest.mark.parametrize("client", [by_urllib, by_requests, by_hand])
def test_no_client_escapes(client, monkeypatch):
    import conftest

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setitem(schemas.SERVICES, server.server_port, "marathon")
        try:
            client(server.server_port)
        finally:
            server.shutdown()
            thread.join()
    [found] = conftest.WATCH.found
    conftest.WATCH.found = []
    assert "leader" in found and "5 is not of type 'string'" in found
