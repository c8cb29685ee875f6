"""A registry of a test's own, which may want to know who asks."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KIND = "application/vnd.docker."
TOKEN = "a-token-for-reading"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry(ThreadingHTTPServer):
    """The image `team/app`, as `docker push` would have left it.

    `auth` is `None`, `basic`, or `token`; who may read is `user`, by name and password.
    """

    daemon_threads = True

    def __init__(self, rootfs: bytes, auth: str | None = None, user: str = "reader:secret", **config: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.auth, self.user = auth, user
        self.asked: list[str] = []
        packed = gzip.compress(rootfs, 1)
        described = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": [digest(rootfs)]},
        }).encode()
        self.blobs = {digest(blob): blob for blob in (packed, described)}
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": KIND + "distribution.manifest.v2+json",
            "config": {"mediaType": KIND + "container.image.v1+json",
                       "digest": digest(described), "size": len(described)},
            "layers": [{"mediaType": KIND + "image.rootfs.diff.tar.gzip",
                        "digest": digest(packed), "size": len(packed)}],
        }).encode()

    def __enter__(self) -> Registry:
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def digest(self) -> str:
        return digest(self.manifest)

    @property
    def image(self) -> str:
        return f"{self.name}/team/app:1"

    def credentials(self, user: str | None = None) -> dict[str, Any]:
        """A `config.json` for it."""
        auth = base64.b64encode((user or self.user).encode()).decode()
        return {"auths": {self.name: {"auth": auth}}}

    def pulls(self) -> int:
        return sum("/manifests/" in path for path in self.asked)


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        registry = self.server
        registry.asked.append(self.path)
        basic = "Basic " + base64.b64encode(registry.user.encode()).decode()
        said = self.headers.get("Authorization")
        if self.path.startswith("/token"):
            if said == basic:
                return self.say(200, json.dumps({"token": TOKEN}).encode())
            return self.refuse("Basic realm=\"tokens\"")
        if registry.auth == "basic" and said != basic:
            return self.refuse("Basic realm=\"registry\"")
        if registry.auth == "token" and said != f"Bearer {TOKEN}":
            where = f"http://{registry.name}/token"
            return self.refuse(
                f'Bearer realm="{where}",service="registry",scope="repository:team/app:pull"')
        if self.path.startswith("/v2/team/app/manifests/"):
            return self.say(200, registry.manifest, KIND + "distribution.manifest.v2+json")
        if self.path == "/v2/":
            return self.say(200, b"{}")
        blob = registry.blobs.get(self.path.rsplit("/", 1)[1])
        if blob is None:
            return self.say(404, b'{"errors": [{"code": "NAME_UNKNOWN", "message": "unknown"}]}')
        self.say(200, blob, "application/octet-stream")

    def refuse(self, challenge: str) -> None:
        body = b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}'
        self.say(401, body, WWW_Authenticate=challenge)

    def say(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", digest(body))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""
