"""Records what an original master, an original agent and libmesos' scheduler driver say to each other (API v0), into
`recorded/mesos-1.11-v0.json`. Takes root, `MESOS_REFERENCE` and `PYTHON2` (see `original.py`, `libmesos_driver.py`).

usage: record_v0.py
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cluster import eventually
from original import PROGRAMS, Original, remove
from v0 import PREFIX, messages

HERE = Path(__file__).resolve().parent
# Addresses of their own tell the three apart.
MASTER, AGENT, DRIVER = ("127.9.0.1", 5050), ("127.9.0.3", 5051), ("127.9.0.2", 5052)
WHO = {MASTER[0]: "master", AGENT[0]: "agent", DRIVER[0]: "driver"}
EVERYTHING, IPV4, TCP, OUTGOING = 3, 0x0800, 6, 4


class Wire(threading.Thread):
    """Everything TCP brings from one of the three to another, each connection's direction a stream of bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self.socket.bind(("lo", EVERYTHING))
        self.streams: dict[tuple, dict[int, bytes]] = {}
        self.order: list[tuple] = []

    def run(self) -> None:
        while True:
            packet, (_, protocol, kind, *_) = self.socket.recvfrom(1 << 20)
            # On loopback each packet is seen twice.
            if kind != OUTGOING or protocol != IPV4 or packet[9] != TCP:
                continue
            source, target = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
            tcp = packet[(packet[0] & 15) * 4:int.from_bytes(packet[2:4])]
            data = tcp[(tcp[12] >> 4) * 4:]
            ports, sequence = struct.unpack_from("!HH", tcp), struct.unpack_from("!I", tcp, 4)[0]
            if data and target in WHO:
                key = (source, ports[0], target, ports[1])
                stream = self.streams.setdefault(key, {})
                if sequence not in stream:
                    stream[sequence] = data
                    self.order.append((key, sequence))

    def said(self) -> list[dict]:
        """The messages, in the order of their last bytes."""
        buffers: dict[tuple, bytes] = {}
        found = []
        for key, sequence in self.order:
            buffer = buffers.get(key, b"") + self.streams[key][sequence]
            whole, taken = messages(buffer)
            buffers[key] = buffer[taken:]
            for message in whole:
                sender = WHO.get(message.sender.rpartition("@")[2].partition(":")[0])
                if sender and message.name.startswith(PREFIX):
                    found.append({
                        "from": message.sender, "to": f"{message.process}@{key[2]}:{key[3]}",
                        "name": message.name, "body": base64.b64encode(message.body).decode(),
                    })
        return found


def at(address: tuple[str, int], program: Original) -> Original:
    program.address = f"{address[0]}:{address[1]}"
    program.environment |= {"LIBPROCESS_IP": address[0], "LIBPROCESS_PORT": str(address[1])}
    return program


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="dcos-record-"))
    wire = Wire()
    wire.start()
    master = at(MASTER, Original(folder / "master", MASTER[1])).start()
    agent = at(AGENT, Original(
        folder / "agent", AGENT[1], master.address, resources="cpus:4;mem:1024;disk:1000;ports:[31000-31100]",
    )).start()
    driver = subprocess.Popen(
        [os.environ["PYTHON2"], str(HERE / "libmesos_driver.py"), master.address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "LD_LIBRARY_PATH": str(PROGRAMS), "LIBPROCESS_IP": DRIVER[0],
             "LIBPROCESS_PORT": str(DRIVER[1]), "MESOS_REF_MODULE": f"{PROGRAMS}/_scheduler.so"},
    )
    told: list[str] = []
    threading.Thread(target=lambda: [told.append(line.strip()) for line in driver.stdout], daemon=True).start()

    def heard(line: str, times: int = 1) -> None:
        eventually(line, lambda: told.count(line) >= times)

    def say(line: str) -> None:
        driver.stdin.write(f"{line}\n")
        # What has no answer is seen on the wire by then.
        time.sleep(1)

    try:
        heard("one TASK_RUNNING")
        say("accept two")
        heard("two TASK_RUNNING")
        for line in ("request", "suppress", "message", "ask one", "ask"):
            say(line)
        heard("one TASK_RUNNING", 3)
        say("kill one")
        heard("one TASK_KILLED")
        say("ask one")
        say("kill one")
        heard("one TASK_LOST", 2)
        say("revive")
        say("stop")
        driver.wait(30)
    finally:
        print(told, file=sys.stderr)
        driver.kill()
        agent.kill()
        master.kill()
        remove(folder)
    (HERE / "recorded" / "mesos-1.11-v0.json").write_text(json.dumps(wire.said(), indent=0) + "\n")


main()
