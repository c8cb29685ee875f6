"""An app from a registry: Marathon, master, agent and a registry of this test. Needs root."""

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cluster import Cluster, eventually, get

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="images need root")


def rootfs() -> bytes:
    """This machine's shell and cat, and a file, as a tar file."""
    files = {Path("/bin/sh"), Path("/bin/cat"), Path("/bin/sleep")}
    for program in list(files):
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        files |= {Path(found) for found in re.findall(r"(/\S+) \(", listed)}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in sorted(files):
            tar.add(os.path.realpath(file), arcname=str(file))
        entry = tarfile.TarInfo("from-image")
        entry.size = len(b"of the image\n")
        tar.addfile(entry, io.BytesIO(b"of the image\n"))
        for name in ("tmp", "proc", "sys", "dev", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    return archive.getvalue()


class Registry(ThreadingHTTPServer):
    """One image, as `docker push` would have left it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        layer = rootfs()
        packed = gzip.compress(layer, 1)
        config = json.dumps({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["WHO=image"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [self.digest(layer)]},
        }).encode()
        self.blobs = {self.digest(blob): blob for blob in (packed, config)}
        kind = "application/vnd.docker."
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": kind + "distribution.manifest.v2+json",
            "config": {"mediaType": kind + "container.image.v1+json",
                       "digest": self.digest(config), "size": len(config)},
            "layers": [{"mediaType": kind + "image.rootfs.diff.tar.gzip",
                        "digest": self.digest(packed), "size": len(packed)}],
        }).encode()

    @staticmethod
    def digest(data: bytes) -> str:
        return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        registry: Registry = self.server
        registry.asked.append(self.path)
        if self.path.startswith("/v2/team/app/manifests/"):
            body = registry.manifest
            kind = "application/vnd.docker.distribution.manifest.v2+json"
        else:
            body, kind = registry.blobs.get(self.path.rsplit("/", 1)[1], b""), "application/octet-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", registry.digest(body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def registry():
    registry = Registry()
    thread = threading.Thread(target=registry.serve_forever)
    thread.start()
    yield registry
    registry.shutdown()
    thread.join()
    registry.server_close()


def test_an_app_runs_in_an_image_of_a_registry(registry):
    app = {
        "id": "/pulled", "cpus": 0.1, "mem": 64, "instances": 2,
        "cmd": 'echo "$WHO $(cat /from-image)" > $MESOS_SANDBOX/proof; exec sleep 1000',
        "container": {
            "type": "MESOS",
            "docker": {"image": f"127.0.0.1:{registry.server_port}/team/app:1"},
        },
    }
    with Cluster(agent_flags={"image_providers": "docker"}) as cluster:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{cluster.marathon}/v2/apps", json.dumps(app).encode(), headers, method="POST")
        eventually("Marathon's answer", lambda: get(f"{cluster.marathon}/v2/info"))
        urllib.request.urlopen(request, timeout=60).close()
        def running():
            tasks = get(f"{cluster.marathon}/v2/apps/pulled/tasks")["tasks"]
            return len(tasks) == 2 and all(task["state"] == "TASK_RUNNING" for task in tasks)

        eventually("the app to run", running)

        def proofs():
            return [proof.read_text() for proof in cluster.folder.glob("agent/slaves/**/latest/proof")]

        expected = "image of the image\n"
        eventually("what the tasks wrote", lambda: expected in proofs())
        layers = [path for path in registry.asked if "/blobs/" in path]
        assert len(layers) == 2, "configuration and layer, once each"
