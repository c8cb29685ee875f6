"""The router before a real cluster: what people and clients of DC/OS reach through one URL."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
import textwrap
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import requests
from cluster import ROOT, Cluster, binary, eventually, free_port

# Made for `localhost` and `127.0.0.1`, signed by an authority of its own.
KEYS = ROOT / "dcos-core" / "wire" / "tests" / "tls"

# A service in the standard library: tells how it was asked, counts what is uploaded while it comes, and echoes on a
# WebSocket.
SERVICE = textwrap.dedent('''
    import base64, hashlib, json, os, sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def tell(self, **more):
            body = json.dumps({"path": self.path, "headers": dict(self.headers), **more}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        seen = 0

        def do_GET(self):
            if self.path == "/seen":
                self.tell(seen=Handler.seen)
            elif self.path.startswith("/bytes?"):
                size = int(self.path.split("?")[1])
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                for _ in range(size >> 16):
                    self.wfile.write(bytes(range(256)) * 256)
            elif self.path == "/redirect":
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif self.headers.get("Upgrade", "").lower() == "websocket":
                key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                self.wfile.write(("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n"
                    "Connection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + "\\r\\n\\r\\n").encode())
                self.wfile.flush()
                head = self.rfile.read(2)
                mask, size = self.rfile.read(4), head[1] & 127
                text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(size)))
                self.wfile.write(bytes([0x81, len(text)]) + text)
                self.close_connection = True
            else:
                self.tell()

        def pieces(self):
            left = self.headers["Content-Length"]
            if left is not None:
                left = int(left)
                while left:
                    piece = self.rfile.read(min(left, 1 << 20))
                    left -= len(piece)
                    yield piece
                return
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def do_PUT(self):
            digest = hashlib.sha256()
            Handler.seen = 0
            for piece in self.pieces():
                digest.update(piece)
                Handler.seen += len(piece)
            self.tell(bytes=Handler.seen, sha256=digest.hexdigest())

    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT0"])), Handler).serve_forever()
''')


@pytest.fixture(scope="module")
def door():
    """A cluster with routers; its URL is the master's one."""
    port, encrypted, agent = free_port(), free_port(), free_port()
    agent_flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "router_port": agent}
    master_flags = {"router_port": port, "router_agent_port": agent, "without": "", "router_access_log": "-",
                    "router_https_port": encrypted, "router_certificate": KEYS / "server.pem",
                    "router_key": KEYS / "server.key"}
    with Cluster(agent_flags=agent_flags, master_flags=master_flags) as cluster:
        cluster.door, cluster.encrypted = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{encrypted}"
        for path in ("/service/marathon/v2/apps", "/service/metronome/v1/jobs"):
            eventually(path, lambda path=path: requests.get(cluster.door + path, timeout=60).ok)
        known = lambda: requests.get(f"{cluster.door}/mesos_dns/v1/hosts/leader.mesos", timeout=60).json()[0]["host"]  # noqa: E731
        eventually("names", known)
        yield cluster


def deploy(door: Cluster, name: str, **labels: str) -> str:
    """Runs the service under that name; returns its URL through the router."""
    script = base64.b64encode(SERVICE.encode()).decode()
    app = {
        "id": f"/{name}", "cpus": 0.1, "mem": 64, "portDefinitions": [{"port": 0, "protocol": "tcp"}],
        "cmd": f"exec python3 -c \"import base64; exec(base64.b64decode('{script}'))\"",
        "labels": {"DCOS_SERVICE_NAME": name, "DCOS_SERVICE_SCHEME": "http", "DCOS_SERVICE_PORT_INDEX": "0", **labels},
    }
    answer = requests.post(f"{door.door}/service/marathon/v2/apps", json=app, timeout=60)
    assert answer.status_code == 201, answer.text
    url = f"{door.door}/service/{name}"
    eventually(f"{name} through the router", lambda: requests.get(f"{url}/x", timeout=60).ok, timeout=180)
    return url


@pytest.fixture(scope="module")
def service(door):
    return deploy(door, "web")


def test_the_parts_of_the_cluster_are_behind_one_url(door):
    def get(path: str) -> Any:
        answer = requests.get(door.door + path, timeout=60)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    assert get("/mesos/state")["id"] == get("/mesos/master/state")["id"]
    assert get("/marathon/v2/apps").keys() == {"apps"}
    assert get("/service/metronome/v1/jobs") == []
    assert get("/mesos_dns/v1/hosts/leader.mesos")[0]["host"] == "leader.mesos."
    assert get("/dcos-metadata/dcos-version.json")["version"]
    metadata = get("/metadata")
    assert metadata["PUBLIC_IPV4"] == "127.0.0.1" and len(metadata["CLUSTER_ID"]) == 36
    assert "frameworks" in get("/cache/master/state-summary")
    # What is kept is as new as five seconds.
    again = lambda: requests.get(f"{door.door}/cache/master/state-summary", timeout=60)  # noqa: E731
    eventually("the same once more", lambda: again().headers["X-Cache-Status"] == "HIT")


def test_people_ask_for_names_through_the_router(door):
    def dcos(*words: str) -> subprocess.CompletedProcess[str]:
        command = [binary("dcos"), "--master", f"{door.door}/mesos", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    table = [line.split() for line in dcos("node", "dns", "leader.mesos").stdout.splitlines()]
    assert table == [["HOST", "IP"], ["leader.mesos.", "127.0.0.1"]]
    assert dcos("-q", "node", "dns", "leader.mesos").stdout == "127.0.0.1\n"
    (leader,) = json.loads(dcos("--json", "node", "dns", "_leader._tcp.mesos").stdout)
    assert (leader["ip"], leader["port"]) == ("127.0.0.1", door.master.split(":")[1])
    missing = dcos("node", "dns", "nobody.mesos")
    assert missing.returncode and "there is no nobody.mesos" in missing.stderr
    assert dcos("node", "dns", "../v1/axfr").returncode


def test_agents_are_reached_by_id(door):
    (agent,) = requests.get(f"{door.door}/mesos/slaves", timeout=60).json()["slaves"]
    for prefix in ("agent", "slave"):
        state = lambda prefix=prefix: requests.get(f"{door.door}/{prefix}/{agent['id']}/state", timeout=60).json()  # noqa: E731
        eventually("its state", lambda: state()["id"] == agent["id"])
    system = f"{door.door}/system/v1/agent/{agent['id']}"
    assert requests.get(f"{system}/dcos-metadata/dcos-version.json", timeout=60).json()["version"]
    assert "nginx_vts" in requests.get(f"{system}/nginx/metrics", timeout=60).text
    unknown = requests.get(f"{door.door}/agent/nobody/state", timeout=60)
    assert (unknown.status_code, unknown.text) == (404, "404 Not Found: agent `nobody` unknown.\n")


def test_a_service_by_its_labels(door, service):
    told = requests.get(f"{service}/foo/a%20%3Fb?x=%2F", timeout=60).json()
    assert told["path"] == "/foo/a%20%3Fb?x=%2F"
    headers = {name.lower(): value for name, value in told["headers"].items()}
    assert headers["host"] == door.door.removeprefix("http://")
    assert headers["x-real-ip"] == headers["x-forwarded-for"] == "127.0.0.1"
    redirect = requests.get(f"{service}/redirect", timeout=60, allow_redirects=False)
    assert (redirect.status_code, redirect.headers["Location"]) == (302, "/service/web/elsewhere")
    bare = requests.get(service, timeout=60, allow_redirects=False)
    assert (bare.status_code, bare.headers["Location"]) == (301, "/service/web/")


def test_nested_names_and_paths_that_stay(door):
    nested = deploy(door, "group/deep/web", DCOS_SERVICE_REWRITE_REQUEST_URLS="false")
    assert requests.get(f"{nested}/x", timeout=60).json()["path"] == "/service/group/deep/web/x"


def test_a_large_upload_passes(service, tmp_path):
    size, piece, digest = 256 << 20, os.urandom(1 << 20), hashlib.sha256()
    with (tmp_path / "package").open("wb+") as file:
        for _ in range(size >> 20):
            digest.update(piece)
            file.write(piece)
        file.seek(0)
        told = requests.put(f"{service}/upload", data=file, timeout=300)
    assert told.json()["bytes"] == size and told.json()["sha256"] == digest.hexdigest()


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "tls"])
def test_a_websocket_passes(door, service, encrypted):
    host, port = (door.encrypted if encrypted else door.door).split("://")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        if encrypted:
            # HTTP/2 is offered as well, and has no such thing: this client takes HTTP/1.1.
            context = ssl.create_default_context(cafile=KEYS / "ca.pem")
            context.set_alpn_protocols(["http/1.1"])
            stream = context.wrap_socket(stream, server_hostname=host)
            assert stream.selected_alpn_protocol() == "http/1.1"
        stream.sendall(
            f"GET /service/web/ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        file = stream.makefile("rb")
        head = b"".join(iter(file.readline, b"\r\n")).decode().lower()
        assert head.startswith("http/1.1 101 ") and "s3pplmbitxaq9kygzzhzrbk+xoo=" in head, head
        mask, text = b"\1\2\3\4", b"through the door"
        stream.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
        assert file.read(2 + len(text))[2:] == text
        stream.close()


def curl(*words: str) -> list[str]:
    """What curl was given, as it was told to write it."""
    command = ["curl", "--silent", "--show-error", "--max-time", "120", "--cacert", KEYS / "ca.pem", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("offered, spoken", [("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")])
def test_curl_and_the_router_agree_on_a_protocol(door, service, offered, spoken):
    words, url = "%{http_code} %{http_version} %{ssl_verify_result}", f"{door.encrypted}/service/web"
    (told,) = curl(offered, "--output", "/dev/null", "--write-out", words, f"{url}/x")
    assert told.split() == ["200", spoken, "0"]
    body = json.loads("".join(curl(offered, f"{url}/a%20b?x=%2F")))
    headers = {name.lower(): value for name, value in body["headers"].items()}
    assert body["path"] == "/a%20b?x=%2F"
    # HTTP/2 has no Host: whoever is behind sees what stands for it.
    assert headers["host"] == door.encrypted.removeprefix("https://") and headers["x-forwarded-proto"] == "https"


def test_http2_in_the_clear_for_those_who_know(door, service):
    (told,) = curl("--http2-prior-knowledge", "--output", "/dev/null", "--write-out", "%{http_code} %{http_version}",
                   f"{door.door}/service/web/x")
    assert told.split() == ["200", "2"]


def test_one_connection_of_http2_carries_many_requests(door, service):
    told = curl("--http2", "--parallel", "--parallel-max", "40", "--output", "/dev/null", "--write-out",
                "%{http_code} %{http_version} %{num_connects}\n", f"{door.encrypted}/service/web/x?[1-200]")
    assert [line.split()[:2] for line in told] == [["200", "2"]] * 200
    assert sum(int(line.split()[2]) for line in told) < 20, "connections for 200 requests"


@pytest.mark.parametrize("protocol", ["--http2", "--http1.1"])
def test_an_upload_without_a_length_passes_while_it_is_made(door, service, protocol):
    piece, digest = os.urandom(1 << 20), hashlib.sha256()
    command = ["curl", "--silent", "--show-error", "--fail", protocol, "--cacert", KEYS / "ca.pem", "--upload-file", "-",
               f"{door.encrypted}/service/web/upload"]
    seen = lambda: requests.get(f"{service}/seen", timeout=60).json()["seen"]  # noqa: E731
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as upload:
        for _ in range(2):
            upload.stdin.write(piece)
            digest.update(piece)
        upload.stdin.flush()
        # Behind the router already, before there is an end.
        eventually("the first half behind the router", lambda: seen() >= 1 << 20)
        for _ in range(30):
            upload.stdin.write(piece)
            digest.update(piece)
        told, _ = upload.communicate(timeout=180)
    assert upload.returncode == 0
    told = json.loads(told)
    assert (told["bytes"], told["sha256"]) == (32 << 20, digest.hexdigest())
    assert "content-length" not in {name.lower() for name in told["headers"]}


def test_a_large_answer_over_http2_is_whole(door, service, tmp_path):
    # Larger than every window of HTTP/2 that is open at first.
    curl("--http2", "--output", str(tmp_path / "bytes"), f"{door.encrypted}/service/web/bytes?{32 << 20}")
    assert (tmp_path / "bytes").read_bytes() == bytes(range(256)) * (32 << 12)


def test_events_come_over_http2_as_they_happen(door, service):
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "120", "--http2",
               "--cacert", KEYS / "ca.pem", "--header", "Accept: text/event-stream", f"{door.encrypted}/service/marathon/v2/events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        try:
            first = iter(stream.stdout.readline, "")
            assert next(line for line in first if line.startswith("event:")) == "event: event_stream_attached\n"
            body = {"id": "/told", "cpus": 0.1, "mem": 32, "instances": 0, "cmd": "true"}
            made = curl("--http2", "--json", json.dumps(body), "--output", "/dev/null", "--write-out", "%{http_code}",
                        f"{door.encrypted}/service/marathon/v2/apps")
            assert made == ["201"]
            told = (json.loads(line.removeprefix("data:")) for line in first if line.startswith("data:"))
            assert next(event for event in told if event["eventType"] == "api_post_event")["appDefinition"]["id"] == "/told"
        finally:
            stream.kill()


def test_a_service_is_gone_when_its_app_is(door):
    url = deploy(door, "short-lived")
    assert requests.delete(f"{door.door}/service/marathon/v2/apps/short-lived", timeout=60).ok
    eventually("nothing behind its name", lambda: requests.get(f"{url}/x", timeout=60).status_code == 404)


def test_our_command_line_with_the_router_as_its_cluster(door, service, tmp_path):
    def dcos(*words: str) -> str:
        environment = {**os.environ, "DCOS_DIR": str(tmp_path)}
        done = subprocess.run(
            [binary("dcos"), *words], capture_output=True, text=True, timeout=180, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    dcos("cluster", "setup", door.door)
    (cluster,) = json.loads(dcos("cluster", "list", "--json"))
    assert cluster["attached"]
    toml = next(Path(tmp_path).glob("clusters/*/dcos.toml")).read_text()
    assert f'dcos_url = "{door.door}"' in toml
    assert "/web" in dcos("marathon", "app", "list")
    assert "active" in dcos("node", "list")
    (task,) = [task for task in json.loads(dcos("task", "list", "--json")) if task["name"] == "web"]
    # Its files are on the agent, which is asked by way of the router as well.
    assert "stdout" in dcos("task", "ls", task["id"])
    assert dcos("job", "list") is not None


def test_clients_of_marathon_take_the_url_through_the_router(door, service):
    marathon = pytest.importorskip("marathon")
    client = marathon.MarathonClient(f"{door.door}/service/marathon")
    assert "/web" in [app.id for app in client.list_apps()]
    assert client.ping()


def test_operators_stream_of_events_passes(door):
    call = urllib.request.Request(
        f"{door.door}/mesos/api/v1", data=b'{"type":"SUBSCRIBE"}',
        headers={"Content-Type": "application/json", "Accept": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=60) as stream:
        size = int(stream.readline())
        assert json.loads(stream.read(size))["type"] == "SUBSCRIBED"


def test_hostile_paths_lead_nowhere(door):
    host, port = door.door.removeprefix("http://").split(":")
    for path in ("/service/web/..%2f..%2fmesos/state", "/../etc/passwd", "/service/web/%00"):
        with socket.create_connection((host, int(port)), timeout=60) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            assert stream.makefile("rb").readline().split()[1] == b"400", path
