"""The router before a real cluster: what people and clients of DC/OS reach through one URL."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import textwrap
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import requests
from cluster import Cluster, binary, eventually, free_port

# A service in the standard library: tells how it was asked, counts what is uploaded, and echoes on a WebSocket.
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

        def do_GET(self):
            if self.path == "/redirect":
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

        def do_PUT(self):
            digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
            total = left
            while left:
                piece = self.rfile.read(min(left, 1 << 20))
                digest.update(piece)
                left -= len(piece)
            self.tell(bytes=total, sha256=digest.hexdigest())

    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT0"])), Handler).serve_forever()
''')


@pytest.fixture(scope="module")
def door():
    """A cluster with routers; its URL is the master's one."""
    port, agent = free_port(), free_port()
    agent_flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "router_port": agent}
    master_flags = {"router_port": port, "router_agent_port": agent, "without": "", "router_access_log": "-"}
    with Cluster(agent_flags=agent_flags, master_flags=master_flags) as cluster:
        cluster.door = f"http://127.0.0.1:{port}"
        eventually("Marathon", lambda: requests.get(f"{cluster.door}/service/marathon/v2/info", timeout=5).ok)
        yield cluster


def deploy(door: Cluster, name: str, **labels: str) -> str:
    """Runs the service under that name; returns its URL through the router."""
    script = base64.b64encode(SERVICE.encode()).decode()
    app = {
        "id": f"/{name}", "cpus": 0.1, "mem": 64, "portDefinitions": [{"port": 0, "protocol": "tcp"}],
        "cmd": f"exec python3 -c \"import base64; exec(base64.b64decode('{script}'))\"",
        "labels": {"DCOS_SERVICE_NAME": name, "DCOS_SERVICE_SCHEME": "http", "DCOS_SERVICE_PORT_INDEX": "0", **labels},
    }
    answer = requests.post(f"{door.door}/service/marathon/v2/apps", json=app, timeout=30)
    assert answer.status_code == 201, answer.text
    url = f"{door.door}/service/{name}"
    eventually(f"{name} through the router", lambda: requests.get(f"{url}/x", timeout=10).ok, timeout=60)
    return url


@pytest.fixture(scope="module")
def service(door):
    return deploy(door, "web")


def test_the_parts_of_the_cluster_are_behind_one_url(door):
    def get(path: str) -> Any:
        answer = requests.get(door.door + path, timeout=10)
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
    assert requests.get(f"{door.door}/cache/master/state-summary", timeout=10).headers["X-Cache-Status"] == "HIT"


def test_agents_are_reached_by_id(door):
    (agent,) = requests.get(f"{door.door}/mesos/slaves", timeout=10).json()["slaves"]
    for prefix in ("agent", "slave"):
        state = requests.get(f"{door.door}/{prefix}/{agent['id']}/state", timeout=10).json()
        assert state["id"] == agent["id"]
    system = f"{door.door}/system/v1/agent/{agent['id']}"
    assert requests.get(f"{system}/dcos-metadata/dcos-version.json", timeout=10).json()["version"]
    assert "nginx_vts" in requests.get(f"{system}/nginx/metrics", timeout=10).text
    unknown = requests.get(f"{door.door}/agent/nobody/state", timeout=10)
    assert (unknown.status_code, unknown.text) == (404, "404 Not Found: agent `nobody` unknown.\n")


def test_a_service_by_its_labels(door, service):
    told = requests.get(f"{service}/foo/a%20%3Fb?x=%2F", timeout=10).json()
    assert told["path"] == "/foo/a%20%3Fb?x=%2F"
    headers = {name.lower(): value for name, value in told["headers"].items()}
    assert headers["host"] == door.door.removeprefix("http://")
    assert headers["x-real-ip"] == headers["x-forwarded-for"] == "127.0.0.1"
    redirect = requests.get(f"{service}/redirect", timeout=10, allow_redirects=False)
    assert (redirect.status_code, redirect.headers["Location"]) == (302, "/service/web/elsewhere")
    bare = requests.get(service, timeout=10, allow_redirects=False)
    assert (bare.status_code, bare.headers["Location"]) == (301, "/service/web/")


def test_nested_names_and_paths_that_stay(door):
    nested = deploy(door, "group/deep/web", DCOS_SERVICE_REWRITE_REQUEST_URLS="false")
    assert requests.get(f"{nested}/x", timeout=10).json()["path"] == "/service/group/deep/web/x"


def test_a_large_upload_passes(service, tmp_path):
    size, piece, digest = 256 << 20, os.urandom(1 << 20), hashlib.sha256()
    with (tmp_path / "package").open("wb+") as file:
        for _ in range(size >> 20):
            digest.update(piece)
            file.write(piece)
        file.seek(0)
        told = requests.put(f"{service}/upload", data=file, timeout=300)
    assert told.json()["bytes"] == size and told.json()["sha256"] == digest.hexdigest()


def test_a_websocket_passes(door, service):
    host, port = door.door.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as stream:
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


def test_a_service_is_gone_when_its_app_is(door):
    url = deploy(door, "short-lived")
    assert requests.delete(f"{door.door}/service/marathon/v2/apps/short-lived", timeout=30).ok
    eventually("nothing behind its name", lambda: requests.get(f"{url}/x", timeout=10).status_code == 404)


def test_our_command_line_with_the_router_as_its_cluster(door, service, tmp_path):
    def dcos(*words: str) -> str:
        environment = {**os.environ, "DCOS_DIR": str(tmp_path)}
        done = subprocess.run(
            [binary("dcos"), *words], capture_output=True, text=True, timeout=60, check=False, env=environment
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
    with urllib.request.urlopen(call, timeout=20) as stream:
        size = int(stream.readline())
        assert json.loads(stream.read(size))["type"] == "SUBSCRIBED"


def test_hostile_paths_lead_nowhere(door):
    host, port = door.door.removeprefix("http://").split(":")
    for path in ("/service/web/..%2f..%2fmesos/state", "/../etc/passwd", "/service/web/%00"):
        with socket.create_connection((host, int(port)), timeout=20) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            assert stream.makefile("rb").readline().split()[1] == b"400", path
