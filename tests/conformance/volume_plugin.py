"""A volume driver of a test's own, by Docker's plugin protocol: volumes are folders."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

# Where every Docker Engine looks for plugins.
PLUGINS = Path("/run/docker/plugins")


class VolumePlugin(socketserver.ThreadingUnixStreamServer):
    """Answers on a socket that engines find by its name."""

    daemon_threads = True

    def __init__(self) -> None:
        PLUGINS.mkdir(parents=True, exist_ok=True)
        self.name = f"dcos-test-{os.getpid()}"
        self.path = PLUGINS / f"{self.name}.sock"
        self.path.unlink(missing_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="dcos-volumes-"))
        self.options: dict[str, dict[str, str]] = {}
        self.mounted: dict[str, set[str]] = {}
        super().__init__(str(self.path), Handler)

    def __enter__(self) -> VolumePlugin:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def answer(self, call: str, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("Name", "")
        where = str(self.folder / name)
        if call == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        if call == "VolumeDriver.Capabilities":
            return {"Capabilities": {"Scope": "local"}}
        if call == "VolumeDriver.Create":
            if (asked.get("Opts") or {}).get("size") == "too much":
                return {"Err": "there is not so much room"}
            self.options.setdefault(name, asked.get("Opts") or {})
            (self.folder / name).mkdir(exist_ok=True)
            return {}
        if call == "VolumeDriver.List":
            return {"Volumes": [{"Name": one, "Mountpoint": str(self.folder / one)} for one in self.options]}
        if name not in self.options:
            return {"Err": "no such volume"}
        if call == "VolumeDriver.Mount":
            self.mounted.setdefault(name, set()).add(asked["ID"])
        elif call == "VolumeDriver.Unmount":
            self.mounted.get(name, set()).discard(asked["ID"])
        elif call == "VolumeDriver.Remove":
            del self.options[name]
        elif call == "VolumeDriver.Get":
            return {"Volume": {"Name": name, "Mountpoint": where}}
        return {"Mountpoint": where}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            text = b""
            while size := int(self.rfile.readline(), 16):
                text += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            text = self.rfile.read(length)
        plugin: Any = self.server
        body = json.dumps(plugin.answer(self.path.strip("/"), json.loads(text or b"{}") or {})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "docker"

    def log_message(self, *_: object) -> None:
        """Quiet."""
