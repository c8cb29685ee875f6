"""The check of answers against schemas bites: each kind of deviation is found, in whatever client reads the answer."""

import http.client
import http.server
import json
import threading
import urllib.request

import jsonschema
import pytest
import requests
import schemas

QUEUE = {"queue": [{
    "app": {"id": "/a", "cmd": "sleep 1"}, "count": 1, "role": "*", "since": "2026-11-22T10:00:00.000Z",
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
    for wrong in (missing, {**item, "count": "1"}, {**item, "more": 1}, {**item, "app": {**item["app"], "cpus": 0}}):
        assert faults({"queue": [wrong]}), wrong


def test_errors_have_their_form_too():
    assert schemas.faults("marathon", "GET", "/v2/apps/x", 404, {"message": "App '/x' does not exist"}) == []
    assert schemas.faults("marathon", "GET", "/v2/apps/x", 404, {"error": "App '/x' does not exist"})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"leader": 5}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def by_urllib(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/leader", timeout=10) as answer:
        answer.read()


def by_requests(port):
    requests.get(f"http://127.0.0.1:{port}/v2/leader", timeout=10).json()


def by_hand(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
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
