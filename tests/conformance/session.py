"""A client of an agent's sessions over plain sockets: what it sends is what is written here."""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any


def deploy(cluster, name: str, **app: Any) -> dict:
    """Starts an app of one instance through Marathon; its task once it runs."""
    from cluster import eventually

    app = {"id": f"/{name}", "cpus": 0.1, "mem": 64, "disk": 0, "cmd": "sleep 1000", **app}
    request = http.client.HTTPConnection("127.0.0.1", cluster.marathon_port, timeout=60)
    request.request("POST", "/v2/apps", json.dumps(app), {"Content-Type": "application/json"})
    answer = request.getresponse()
    assert answer.status == 201, answer.read()

    def running():
        tasks = [task for framework in cluster.state()["frameworks"] for task in framework["tasks"]]
        return next((t for t in tasks if t["name"] == name and t["state"] == "TASK_RUNNING"), None)

    return eventually(f"{name} runs", running)


def destroy(cluster, name: str) -> None:
    """Ends an app and waits until its task is gone."""
    from cluster import eventually

    request = http.client.HTTPConnection("127.0.0.1", cluster.marathon_port, timeout=60)
    request.request("DELETE", f"/v2/apps//{name}?force=true")
    assert request.getresponse().status == 200

    def gone():
        tasks = [task for framework in cluster.state()["frameworks"] for task in framework["tasks"]]
        return all(task["name"] != name for task in tasks)

    eventually(f"{name} is gone", gone)


def container_of(task: dict) -> dict:
    return task["statuses"][-1]["container_status"]["container_id"]


class Agent:
    """The operator API of an agent, in JSON."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, timeout: float | None = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, kind: str, timeout: float = 60, **body: Any) -> tuple[int, Any]:
        connection = self.connect(timeout)
        call = {"type": kind, kind.lower(): body}
        connection.request("POST", "/api/v1", json.dumps(call),
                           {"Content-Type": "application/json", "Accept": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def session(self, parent: dict, argv: list[str], tty: Any = None, **command: Any) -> Output:
        """`LAUNCH_NESTED_CONTAINER_SESSION`, as the `dcos` command line sends it."""
        container_id = {"value": str(uuid.uuid4()), "parent": parent}
        container: dict = {"type": "MESOS"}
        if tty is not None:
            container["tty_info"] = tty
        return Output(self, "LAUNCH_NESTED_CONTAINER_SESSION", {
            "container_id": container_id, "container": container,
            "command": {"shell": False, "value": argv[0], "arguments": argv, **command},
        })

    def shell(self, parent: dict, command: str, tty: Any = None) -> Output:
        return self.session(parent, ["/bin/sh", "-c", command], tty)

    def attach(self, container_id: dict) -> Output:
        return Output(self, "ATTACH_CONTAINER_OUTPUT", {"container_id": container_id})

    def wait(self, container_id: dict, timeout: float = 180) -> int:
        status, answer = self.call("WAIT_CONTAINER", timeout, container_id=container_id)
        assert status == 200, answer
        return answer["wait_container"]["exit_status"]


class Output:
    """A stream of `ProcessIO` records."""

    def __init__(self, agent: Agent, kind: str, body: dict) -> None:
        self.agent, self.container_id = agent, body["container_id"]
        self.connection = agent.connect()
        self.connection.request(
            "POST", "/api/v1", json.dumps({"type": kind, kind.lower(): body}),
            {"Content-Type": "application/json", "Accept": "application/recordio",
             "Message-Accept": "application/json"})
        self.answer = self.connection.getresponse()
        self.status = self.answer.status
        if self.status != 200:
            self.error = self.answer.read().decode()

    def records(self) -> Iterator[dict]:
        while line := self.answer.readline():
            yield json.loads(self.answer.read(int(line)))

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        for record in self.records():
            if record["type"] == "DATA":
                data = record["data"]
                yield data["type"], base64.b64decode(data["data"])

    def until(self, found: Callable[[bytes], bool]) -> bytes:
        """What is said until `found` says so of all of it."""
        said = b""
        for _, data in self.pieces():
            said += data
            if found(said):
                return said
        raise AssertionError(f"the output ended: {said!r}")

    def rest(self) -> dict[str, bytes]:
        """All that is said, by stream."""
        said = {"STDOUT": b"", "STDERR": b""}
        for kind, data in self.pieces():
            said[kind] += data
        return said

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


class Input:
    """`ATTACH_CONTAINER_INPUT`: a chunked request that goes on."""

    def __init__(self, agent: Agent, container_id: dict, first: dict | None = None) -> None:
        self.connection = agent.connect()
        self.connection.putrequest("POST", "/api/v1")
        for name, value in {
            "Content-Type": "application/recordio", "Message-Content-Type": "application/json",
            "Accept": "application/json", "Transfer-Encoding": "chunked",
        }.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()
        self.record(first or {"type": "CONTAINER_ID", "container_id": container_id})

    def record(self, body: dict) -> None:
        call = json.dumps({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": body}).encode()
        framed = f"{len(call)}\n".encode() + call
        self.connection.send(f"{len(framed):x}\r\n".encode() + framed + b"\r\n")

    def io(self, **io: Any) -> None:
        self.record({"type": "PROCESS_IO", "process_io": io})

    def data(self, data: bytes) -> None:
        self.io(type="DATA", data={"type": "STDIN", "data": base64.b64encode(data).decode()})

    def size(self, rows: int, columns: int) -> None:
        self.io(type="CONTROL", control={
            "type": "TTY_INFO", "tty_info": {"window_size": {"rows": rows, "columns": columns}}})

    def end(self) -> int:
        """Ends the request; the status of its answer."""
        self.connection.send(b"0\r\n\r\n")
        return self.answer()

    def answer(self) -> int:
        answer = self.connection.getresponse()
        self.text = answer.read().decode()
        self.connection.close()
        return answer.status


def in_background(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def switchboards(folder: os.PathLike) -> list[int]:
    """The switchboards of the node in `folder`: children of its launcher."""
    def words(pid: str) -> list[bytes]:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")

    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if b"switchboard" not in words(pid):
                continue
            with open(f"/proc/{pid}/stat") as file:
                parent = file.read().rsplit(")", 1)[1].split()[1]
            if any(word.startswith(os.fsencode(folder)) for word in words(parent)):
                found.append(int(pid))
        except OSError:
            continue
    return found


def leftovers(folder: os.PathLike) -> list:
    """What sessions must not leave behind: switchboards and their sockets."""
    return [*switchboards(folder), *os.listdir(os.path.join(folder, "run", "io"))]
