"""The v0 protocol (libprocess messages over TCP) as bytes: taken from a wire, told apart, compared.

Nothing here knows a schema. A message is compared field by field, by the numbers of its fields, so what one side sends
and the other does not shows, whatever it is called.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

PREFIX = "mesos."


@dataclass
class Message:
    """One message: who sent it, to which process of which address, its name, its protobuf bytes."""

    sender: str
    process: str
    name: str
    body: bytes

    def posted(self, address: str) -> bytes:
        """As libprocess writes it to the socket of `address`."""
        head = (
            f"POST /{self.process}/{self.name} HTTP/1.1\r\nUser-Agent: libprocess/{self.sender}\r\n"
            f"Libprocess-From: {self.sender}\r\nConnection: Keep-Alive\r\nHost: {address}\r\n"
        ).encode()
        if not self.body:
            return head + b"\r\n"
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(self.body), self.body)


def messages(stream: bytes) -> tuple[list[Message], int]:
    """The whole messages at the start of what one side of a connection sent, and how many bytes they take."""
    found, start = [], 0
    while (end := stream.find(b"\r\n\r\n", start)) >= 0:
        line, *fields = stream[start:end].decode("latin-1").split("\r\n")
        headers = {key.lower(): value for key, _, value in (field.partition(": ") for field in fields)}
        body, at = b"", end + 4
        if headers.get("transfer-encoding") == "chunked":
            while True:
                stop = stream.find(b"\r\n", at)
                if stop < 0:
                    return found, start
                size = int(stream[at:stop], 16)
                at = stop + 2 + size + 2
                if len(stream) < at:
                    return found, start
                if not size:
                    break
                body += stream[stop + 2:at - 2]
        elif "content-length" in headers:
            at += int(headers["content-length"])
            if len(stream) < at:
                return found, start
            body = stream[end + 4:at]
        request = re.fullmatch(r"POST /(\S*?)/([\w.]+) HTTP/1.1", line)
        sender = headers.get("libprocess-from") or headers.get("user-agent", "").removeprefix("libprocess/")
        if request and "@" in sender:
            found.append(Message(sender, request[1], request[2], body))
        start = at
    return found, start


def fields(data: bytes) -> list[tuple[int, Any]] | None:
    """The fields of a protobuf message, whose messages are lists in turn; nothing where it is no message."""
    found, at = [], 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    try:
        while at < len(data):
            number, kind = divmod(varint(), 8)
            if not 0 < number < 2000:
                return None
            if kind == 0:
                found.append((number, varint()))
            elif kind == 1:
                found.append((number, struct.unpack_from("<d", data, at)[0]))
                at += 8
            elif kind == 5:
                found.append((number, struct.unpack_from("<f", data, at)[0]))
                at += 4
            elif kind == 2:
                size = varint()
                piece = data[at:at + size]
                if len(piece) < size:
                    return None
                at += size
                # Sixteen bytes are a uuid, which by chance may look like a message.
                opaque = not piece or size == 16 or re.fullmatch(rb"[\x20-\x7e]+", piece)
                inner = None if opaque else fields(piece)
                found.append((number, piece if inner is None else inner))
            else:
                return None
    except (IndexError, struct.error):
        return None
    return found


def leaves(message: bytes) -> list[tuple[str, Any]]:
    """The path of field numbers to each value, and the value."""
    def walk(path: str, values: list[tuple[int, Any]]):
        for number, value in values:
            where = f"{path}.{number}" if path else str(number)
            if isinstance(value, list):
                # Which of several messages of one kind it is belongs to no path: their order is free.
                yield from walk(where, value)
            else:
                yield where, value

    return sorted(walk("", fields(message) or []), key=lambda leaf: (leaf[0], str(leaf[1])))


def differences(theirs: bytes, ours: bytes, varies) -> list[str]:
    """What one has and the other has not, but for leaves that vary."""
    def counted(message: bytes) -> Counter:
        return Counter(leaf for leaf in leaves(message) if not varies(*leaf))

    expected, found = counted(theirs), counted(ours)
    return [f"{path} = {value!r} is missing" for path, value in sorted((expected - found), key=str)] + [
        f"{path} = {value!r} is more" for path, value in sorted((found - expected), key=str)]
