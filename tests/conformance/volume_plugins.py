"""Storage plugins that mount: one for Docker's protocol, one for CSI 1 (with gRPC's own library).

Both bind a folder of their own where they are asked to, and write down what they were asked. What CSI's
messages look like is taken from its specification, by field numbers, and not from our code.
"""

from __future__ import annotations

import http.server
import json
import socketserver
import subprocess
import threading
from concurrent import futures
from pathlib import Path
from typing import Any


class Calls:
    """What a plugin was asked, in order; one call can be held up."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.held: str | None = None
        self.go_on = threading.Event()

    def note(self, name: str) -> None:
        self.names.append(name)
        if name == self.held:
            self.go_on.wait(600)

    def hold(self, name: str) -> None:
        self.go_on.clear()
        self.held = name

    def release(self) -> None:
        self.held = None
        self.go_on.set()

    def count(self, name: str) -> int:
        return self.names.count(name)


def is_mounted(path: Path | str) -> bool:
    return f" {path} " in Path("/proc/self/mountinfo").read_text()


def bind(source: Path, target: Path) -> None:
    source.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    if not is_mounted(target):
        subprocess.run(["mount", "--bind", source, target], check=True)


def release(target: Path | str) -> None:
    if is_mounted(target):
        subprocess.run(["umount", target], check=True)


class DockerPlugin:
    """A volume plugin of Docker on a Unix socket."""

    MOUNT, UNMOUNT = "VolumeDriver.Mount", "VolumeDriver.Unmount"

    def __init__(self, folder: Path) -> None:
        self.calls, self.folder = Calls(), folder
        plugin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = json.dumps(plugin.answer(self.path.strip("/"), json.loads(body or "{}"))).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def address_string(self) -> str:
                return "agent"

            def log_message(self, *_: Any) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        (folder / "plugins").mkdir(parents=True)
        self.server = Server(str(folder / "plugins" / "binder.sock"), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def flags(self) -> dict[str, Any]:
        return {"docker_volume_plugin_dirs": self.folder / "plugins"}

    def source(self, name: str) -> dict[str, Any]:
        return {"type": "DOCKER_VOLUME", "docker_volume": {"driver": "binder", "name": name}}

    def data(self, name: str) -> Path:
        return self.folder / "data" / name

    def mounted(self) -> bool:
        return str(self.folder / "points") in Path("/proc/self/mountinfo").read_text()

    def answer(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        name = body.get("Name", "")
        point = self.folder / "points" / name
        known = self.data(name).exists()
        if call == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        if call == "VolumeDriver.Create":
            self.data(name).mkdir(parents=True, exist_ok=True)
        elif not known:
            return {"Err": f"there is no volume {name}"}
        if call == self.MOUNT:
            bind(self.data(name), point)
            self.calls.note(call)
            return {"Mountpoint": str(point)}
        if call == self.UNMOUNT:
            self.calls.note(call)
            release(point)
        if call == "VolumeDriver.Path" and is_mounted(point):
            return {"Mountpoint": str(point)}
        return {}

    def stop(self) -> None:
        self.calls.release()
        self.server.shutdown()
        self.server.server_close()
        for point in (self.folder / "points").glob("*"):
            release(point)


Message = dict[int, list[Any]]


def read(data: bytes) -> Message:
    """The fields of a protobuf message: numbers, and bytes of what is longer."""
    fields: Message = {}
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        key = varint()
        value: Any = varint()
        if key & 7 == 2:
            value, place = data[place:place + value], place + value
        fields.setdefault(key >> 3, []).append(value)
    return fields


def text(message: Message, number: int) -> str:
    return message[number][0].decode()


def texts(message: Message, number: int) -> dict[str, str]:
    """A map of texts."""
    entries = [read(entry) for entry in message.get(number, [])]
    return {text(entry, 1): text(entry, 2) for entry in entries}


def field(number: int, value: bytes | int) -> bytes:
    """A field, of less than 128 bytes."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


class CsiPlugin:
    """A plugin of the Container Storage Interface, with node and controller service."""

    MOUNT, UNMOUNT = "NodePublishVolume", "NodeUnpublishVolume"

    def __init__(self, folder: Path) -> None:
        import grpc

        self.calls, self.folder, self.requests = Calls(), folder, {}
        (folder / "plugins").mkdir(parents=True)
        socket = folder / "csi.sock"
        both = [{"csi_service": service, "endpoint": f"unix://{socket}"}
                for service in ("NODE_SERVICE", "CONTROLLER_SERVICE")]
        (folder / "plugins" / "binder.json").write_text(json.dumps({"type": "binder", "endpoints": both}))

        def handlers(service: str, methods: list[str]) -> Any:
            calls = {method: grpc.unary_unary_rpc_method_handler(
                lambda request, _, method=method: self.answer(method, request)) for method in methods}
            return grpc.method_handlers_generic_handler(service, calls)

        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers((
            handlers("csi.v1.Node", ["NodeGetCapabilities", "NodeGetInfo", "NodeStageVolume", "NodeUnstageVolume",
                                     self.MOUNT, self.UNMOUNT]),
            handlers("csi.v1.Controller", ["ControllerGetCapabilities", "ControllerPublishVolume",
                                           "ControllerUnpublishVolume"]),
        ))
        self.server.add_insecure_port(f"unix:{socket}")
        self.server.start()

    def flags(self) -> dict[str, Any]:
        return {"csi_plugin_config_dir": self.folder / "plugins"}

    def source(self, name: str) -> dict[str, Any]:
        secret = {"type": "VALUE", "value": {"data": "c2VzYW1l"}}
        return {"type": "CSI_VOLUME", "csi_volume": {"plugin_name": "binder", "static_provisioning": {
            "volume_id": name, "volume_context": {"share": "/srv"},
            "volume_capability": {"mount": {"fs_type": "ext4"}, "access_mode": {"mode": "MULTI_NODE_MULTI_WRITER"}},
            "node_stage_secrets": {"key": secret}, "node_publish_secrets": {"word": secret}}}}

    def data(self, name: str) -> Path:
        return self.folder / "data" / name

    def mounted(self) -> bool:
        return any("/csi/binder/" in line for line in Path("/proc/self/mountinfo").read_text().splitlines())

    def answer(self, method: str, request: bytes) -> bytes:
        message = read(request)
        self.requests[method] = message
        if method == "NodeGetCapabilities":
            return field(1, field(1, field(1, 1)))
        if method == "ControllerGetCapabilities":
            return field(1, field(1, field(1, 2)))
        if method == "NodeGetInfo":
            return field(1, b"node-7")
        if method == self.MOUNT:
            bind(self.data(text(message, 1)), Path(text(message, 4)))
        self.calls.note(method)
        if method == self.UNMOUNT:
            target = Path(text(message, 2))
            release(target)
            if target.exists():
                target.rmdir()
        if method == "ControllerPublishVolume":
            return field(1, field(1, b"device") + field(2, b"/dev/x"))
        return b""

    def check(self, name: str) -> None:
        """What it was told on the way up, by the numbers of `csi.proto`."""
        attach, stage, publish = (self.requests[m] for m in ("ControllerPublishVolume", "NodeStageVolume", self.MOUNT))
        assert text(attach, 1) == text(stage, 1) == text(publish, 1) == name
        assert text(attach, 2) == "node-7"
        assert texts(attach, 6) == texts(stage, 6) == texts(publish, 8) == {"share": "/srv"}
        assert texts(stage, 2) == texts(publish, 2) == {"device": "/dev/x"}
        assert text(stage, 3) == text(publish, 3) and Path(text(stage, 3)).is_dir()
        assert texts(stage, 5) == {"key": "sesame"} and texts(publish, 7) == {"word": "sesame"}
        for message, number in ((attach, 3), (stage, 4), (publish, 5)):
            capability = read(message[number][0])
            assert text(read(capability[2][0]), 1) == "ext4" and read(capability[3][0])[1] == [5]

    def stop(self) -> None:
        self.calls.release()
        self.server.stop(None).wait()
