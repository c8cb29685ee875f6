"""What an original master, an original agent and libmesos' driver said to each other (`recorded/mesos-1.11-v0.json`, see
`record_v0.py`), said again: to our master by an agent and a driver that are played, to our agent by a played master.

The answers have the same messages in the same order, field by field, but for ids, times and the few listed below.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from itertools import groupby
from pathlib import Path

import pytest
from cluster import Program, eventually, get
from v0 import Message, differences, leaves, messages

HERE = Path(__file__).resolve().parent
RECORDED = json.loads((HERE / "recorded" / "mesos-1.11-v0.json").read_text())
MASTER, AGENT, DRIVER = "127.9.0.1:5050", "127.9.0.3:5051", "127.9.0.2:5052"
PINGS = ("mesos.internal.PingSlaveMessage", "mesos.internal.PongSlaveMessage")
# What a master or an agent made up, and whoever hears it says again: ids and the marks of updates.
MADE_UP = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-\w+)?|.{16}", re.DOTALL)
# Fields of StatusUpdateMessage that are not compared. Our master does not repeat `latest_state`, which no driver reads.
FROM_MASTER = {"1.7": "latest_state"}
# How far a task has got when its first update is sent is chance; the recording's executor is none of the original's.
FROM_AGENT = {"1.7": "latest_state", "1.4.13.3": "container_status.executor_pid", "1.4.4": "message"}


def address(of: str) -> str:
    return of.rpartition("@")[2]


class Party:
    """Somebody who is played: hears on its address, and says what it is told to."""

    def __init__(self, at: str) -> None:
        host, port = at.split(":")
        self.address = at
        self.heard: list[Message] = []
        self.lines: dict[str, socket.socket] = {}
        self.server = socket.create_server((host, int(port)))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                line, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.listen, args=[line], daemon=True).start()

    def listen(self, line: socket.socket) -> None:
        stream = b""
        while piece := line.recv(1 << 16):
            whole, taken = messages(stream + piece)
            stream = (stream + piece)[taken:]
            for message in whole:
                if message.name == PINGS[0]:
                    # Whoever pings wants to hear from whom it pinged.
                    pinged = f"{message.process}@{self.address}"
                    process, _, observer = message.sender.partition("@")
                    self.say(observer, Message(pinged, process, PINGS[1], b""))
                else:
                    self.heard.append(message)

    def say(self, to: str, message: Message) -> None:
        if to not in self.lines:
            host, port = to.split(":")
            self.lines[to] = socket.create_connection((host, int(port)), 10)
        self.lines[to].sendall(message.posted(to))

    def hears(self, name: str) -> Message:
        """The next message of that name; the order of different ones is free."""
        def found() -> Message | None:
            return next((message for message in self.heard if message.name == name), None)

        message = eventually(f"{name} to {self.address} (it heard {[one.name for one in self.heard]})", found)
        self.heard.remove(message)
        return message

    def close(self) -> None:
        # Closing alone would not wake who waits for the next one.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        for line in self.lines.values():
            line.close()


def replay(real: str, played: dict[str, Party]) -> dict[str, list[str]]:
    """Plays the parties to who is real; what is different in the messages they hear, by name."""
    learned: dict[bytes, bytes] = {}
    found: dict[str, list[str]] = {}
    skipped = FROM_AGENT if real == AGENT else FROM_MASTER

    def varies(path: str, value: object) -> bool:
        """Times, and what is not compared."""
        return path in skipped or isinstance(value, float) and value > 1e9

    def translated(text: str) -> bytes:
        body = base64.b64decode(text)
        # The longest first: an id contains that of the master who made it.
        for theirs in sorted(learned, key=len, reverse=True):
            body = body.replace(theirs, learned[theirs])
        return body

    def heard_in(group: list[dict]) -> None:
        """Several of one name in a row may come in any order: each is taken for that which it resembles most."""
        messages = [played[address(group[0]["to"])].hears(group[0]["name"]) for _ in group]
        for entry in group:
            theirs = translated(entry["body"])
            message = min(messages, key=lambda one: len(differences(theirs, one.body, varies)))
            messages.remove(message)
            learn(learned, base64.b64decode(entry["body"]), message.body)
            if told := differences(translated(entry["body"]), message.body, varies):
                found.setdefault(entry["name"], []).extend(told)

    with_ours = [entry for entry in RECORDED if entry["name"] not in PINGS
                 and real in (address(entry["from"]), address(entry["to"]))]
    for (sender, target, _), entries in groupby(
        with_ours, lambda entry: (address(entry["from"]), address(entry["to"]), entry["name"])
    ):
        if sender == real:
            heard_in(list(entries))
            continue
        for entry in entries:
            process = entry["to"].rpartition("@")[0]
            played[sender].say(target, Message(entry["from"], process, entry["name"], translated(entry["body"])))
    return found


def learn(learned: dict[bytes, bytes], theirs: bytes, ours: bytes) -> None:
    expected, found = ([(path, value) for path, value in leaves(body)
                        if isinstance(value, bytes) and MADE_UP.fullmatch(value)] for body in (theirs, ours))
    for (path, one), (other_path, other) in zip(expected, found):
        if path == other_path and len(one) == len(other) and one not in learned.values():
            learned.setdefault(one, other)
            if len(one) > 36 and len(other) > 36:
                learned.setdefault(one[:36], other[:36])


@pytest.fixture
def folder():
    folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(program: Program, real: str, played: list[str], ready) -> dict[str, list[str]]:
    parties = {at: Party(at) for at in played}
    program.start()
    try:
        eventually("its start", ready)
        return replay(real, parties)
    except AssertionError:
        print(program.log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        program.stop(signal.SIGUSR1 if program.name == "dcos-agent" else signal.SIGTERM)
        for party in parties.values():
            party.close()


def test_our_master_says_what_the_original_said(folder):
    host, port = MASTER.split(":")
    master = Program("dcos-master", {
        "ip": host, "port": port, "hostname": "127.0.0.1", "work_dir": folder / "master", "only": "master",
    }, folder / "log", {})
    found = run(master, MASTER, [AGENT, DRIVER], lambda: get(f"http://{MASTER}/state")["id"])
    assert not found, json.dumps(found, indent=1)


def test_our_agent_says_what_the_original_said(folder):
    host, port = AGENT.split(":")
    agent = Program("dcos-agent", {
        "ip": host, "port": port, "hostname": "127.0.0.1", "master": MASTER, "work_dir": folder / "agent",
        "runtime_dir": folder / "run", "launcher": "posix", "isolation": "posix/cpu,posix/mem",
        "resources": "cpus:4;mem:1024;disk:1000;ports:[31000-31100]",
    }, folder / "log", {})
    found = run(agent, AGENT, [MASTER, DRIVER], lambda: True)
    assert not found, json.dumps(found, indent=1)
