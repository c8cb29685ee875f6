"""What each API answers to malformed, oversized, slow and cut-off requests; it goes on serving."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import Cluster, eventually, get

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
# Every surface that takes a body: who serves it, its path, whether it speaks Mesos's negotiation.
SURFACES = [
    ("master", "/api/v1", True),
    ("master", "/api/v1/scheduler", True),
    ("agent", "/api/v1", True),
    ("agent", "/api/v1/executor", True),
    ("marathon", "/v2/apps", False),
]


def port(cluster: Cluster, who: str) -> int:
    return {
        "master": cluster.master_port,
        "agent": cluster.agent_port,
        "marathon": cluster.marathon_port,
    }[who]


def exchange(to: int, data: bytes, *, half_close: bool = False, timeout: float = 180) -> int | None:
    """Sends raw bytes and returns the status of the answer; `None` if the server just closed."""
    with socket.create_connection(("127.0.0.1", to), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
        except ConnectionError:  # it closed before it had read everything
            return None
    return int(answer.split(b" ", 2)[1]) if answer else None


def post(
    path: str,
    body: bytes,
    content_type: str | None = JSON,
    accept: str | None = None,
    length: int | None = None,
) -> bytes:
    length = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {length}"]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"Accept: {accept}"] if accept else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def is_serving(cluster: Cluster) -> None:
    assert get(f"http://{cluster.master}/version")["version"]
    assert get(f"http://127.0.0.1:{cluster.agent_port}/version")["version"]
    assert get(f"{cluster.marathon}/v2/info")["name"]


@pytest.fixture(scope="module", autouse=True)
def ready(cluster: Cluster) -> None:
    eventually("Marathon answers", lambda: get(f"{cluster.marathon}/v2/info"))


@pytest.mark.parametrize(("who", "path", "negotiates"), SURFACES)
def test_malformed(cluster: Cluster, who: str, path: str, negotiates: bool) -> None:
    to = port(cluster, who)
    assert exchange(to, b"this is not HTTP\r\n\r\n") == 400
    assert exchange(to, f"POST {path} HTTP/1.1\r\nno colon\r\n\r\n".encode()) == 400
    assert exchange(to, post(path, b'{"id": ')) == 400
    assert exchange(to, post(path, b"[" * 100_000)) == 400
    assert exchange(to, post(path, bytes(range(256)))) == 400
    if negotiates:
        assert exchange(to, post(path, b"{}")) == 400
        assert exchange(to, post(path, b"[1]")) == 400
        assert exchange(to, post(path, b"{}", content_type=None)) == 400
        assert exchange(to, post(path, b"{}", content_type="text/html")) == 415
        assert exchange(to, post(path, bytes(range(256)), content_type=PROTOBUF)) == 400
        assert exchange(to, f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()) == 405
    is_serving(cluster)


@pytest.mark.parametrize("who", ["master", "agent"])
def test_an_answer_nobody_can_read(cluster: Cluster, who: str) -> None:
    call = post("/api/v1", b'{"type":"GET_HEALTH"}', accept="text/html")
    assert exchange(port(cluster, who), call) == 406


@pytest.mark.parametrize(("who", "path", "_negotiates"), SURFACES)
def test_oversized(cluster: Cluster, who: str, path: str, _negotiates: bool) -> None:
    to = port(cluster, who)
    assert exchange(to, post(path, b"{}", length=10**12)) == 413
    assert exchange(to, f"GET {path}?{'x' * 1_000_000} HTTP/1.1\r\n\r\n".encode()) in (414, 431, None)
    long_header = f"POST {path} HTTP/1.1\r\nX: {'x' * 70_000}"
    assert exchange(to, long_header.encode()) in (431, None)
    is_serving(cluster)


def test_slow(cluster: Cluster) -> None:
    """Side by side, since each waits for the server's patience to end (head 15 s, body 30 s)."""
    requests = [
        (port(cluster, who), data)
        for who, path, _ in SURFACES
        for data in (f"POST {path} HTTP/1.1\r\nHost: te".encode(), post(path, b'{"ty', length=100))
    ]
    with ThreadPoolExecutor(len(requests)) as pool:
        statuses = list(pool.map(lambda request: exchange(*request), requests))
    assert statuses == [408] * len(requests)
    is_serving(cluster)


@pytest.mark.parametrize(("who", "path", "_negotiates"), SURFACES)
def test_cut_off(cluster: Cluster, who: str, path: str, _negotiates: bool) -> None:
    to = port(cluster, who)
    for data in (b"PO", post(path, b"")[:-2], post(path, b"{", length=100)):
        assert exchange(to, data, half_close=True) in (400, 408, None)
    is_serving(cluster)
