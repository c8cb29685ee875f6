"""A registry and a file server where each name has a fault of its own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from images import programs

OCI = "application/vnd.oci.image."


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def tools() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        programs(tar, "sh", "cat", "sleep", "tail")
    return out.getvalue()


class Faulty(ThreadingHTTPServer):
    """Images by name; `good` has no fault. `held` names wait until `go` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.go, self.waiting = threading.Event(), threading.Event()
        big = os.urandom(24 << 20)
        layer = tools()
        self.image("good", gzip.compress(layer, 1), layer)
        self.image("held", gzip.compress(layer, 1), layer)
        for name in ("cut", "stalled"):
            layer = tar_of(**{name: os.urandom(1 << 20)})
            self.image(name, gzip.compress(layer, 1), layer)
        self.image("garbage", b"this is no archive" * 99, b"this is no archive" * 99)
        self.image("other", gzip.compress(tar_of(other=b"x")), tar_of(other=b"y"))
        wrong = self.image("corrupt", gzip.compress(tar_of(file=b"as it was pushed")), b"")
        self.blobs[wrong] = self.blobs[wrong][:-1] + bytes([self.blobs[wrong][-1] ^ 1])
        bomb = tar_of(zeros=bytes(256 << 20))
        self.image("bomb", gzip.compress(bomb, 1), bomb)
        self.image("big", gzip.compress(tar_of(big=big), 1), tar_of(big=big))
        self.manifests["manifest"] = b"{}"
        self.manifests["machine"] = json.dumps({
            "schemaVersion": 2, "mediaType": OCI + "index.v1+json",
            "manifests": [{"mediaType": OCI + "manifest.v1+json", "digest": digest(b""), "size": 0,
                           "platform": {"os": "linux", "architecture": "s390x"}}]}).encode()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def blob(self, data: bytes, kind: str) -> dict:
        self.blobs[digest(data)] = data
        return {"mediaType": OCI + kind, "digest": digest(data), "size": len(data)}

    def image(self, name: str, packed: bytes, layer: bytes) -> str:
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                             "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}).encode()
        layers = [self.blob(packed, "layer.v1.tar+gzip")]
        self.manifests[name] = json.dumps({
            "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
            "config": self.blob(config, "config.v1+json"), "layers": layers}).encode()
        return layers[0]["digest"]


class Handler(BaseHTTPRequestHandler):
    server: Faulty

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "files":
            return self.file(parts[1])
        name, kind = (parts[1], parts[2]) if len(parts) > 2 else ("", "")
        if name == "refused":
            return self.answer(403, b'{"errors":[{"code":"DENIED","message":"not for you"}]}')
        if name == "endless":
            return self.endless()
        if kind == "manifests":
            body = self.server.manifests.get(name)
            if body is None:
                return self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"none"}]}')
            media = json.loads(body).get("mediaType", OCI + "manifest.v1+json")
            return self.answer(200, body, media)
        body = self.server.blobs.get(parts[-1], b"{}")
        if name == "held" and len(body) > 1000:
            self.server.waiting.set()
            self.server.go.wait(600)
        if name in ("cut", "stalled") and len(body) > 1000:
            return self.half(body, name)
        return self.answer(200, body)

    def file(self, name: str) -> None:
        if name == "held":
            self.server.waiting.set()
            self.server.go.wait(600)
            return self.answer(200, b"fetched")
        if name == "cut":
            return self.half(b"x" * 4096, name)
        if name == "broken.tar.gz":
            return self.answer(200, b"this is no archive")
        return self.answer(404, b"")

    def half(self, body: bytes, how: str) -> None:
        """Sends the first half, and then nothing, or the end of the connection."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:len(body) // 2])
        self.wfile.flush()
        if how == "stalled":
            self.server.go.wait(600)
        self.connection.shutdown(socket.SHUT_RDWR)

    def endless(self) -> None:
        """Sends until nobody listens any more."""
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            self.close_connection = True

    def answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 200:
            self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""
