"""What the JSON schema of the OCI runtime specification (1.0.2 and later) says of `config.json`.

Stricter than that schema in one point: what it has no word for is refused here, since a runtime
would pass over it.
"""

from __future__ import annotations

import re
from typing import Any

NAMESPACES = {"mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"}
SECCOMP_ACTIONS = {f"SCMP_ACT_{word}" for word in (
    "KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")}
SECCOMP_OPERATORS = {f"SCMP_CMP_{word}" for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")}


def text(pattern: str = "(?s).*"):
    def check(value: Any, path: str) -> None:
        assert isinstance(value, str) and re.fullmatch(pattern, value), (path, value)
    return check


def one_of(words: set[str]):
    def check(value: Any, path: str) -> None:
        assert value in words, (path, value)
    return check


def whole(low: int, high: int):
    def check(value: Any, path: str) -> None:
        assert type(value) is int and low <= value <= high, (path, value)
    return check


def flag(value: Any, path: str) -> None:
    assert type(value) is bool, (path, value)


def many(item):
    def check(value: Any, path: str) -> None:
        assert isinstance(value, list), (path, value)
        for number, one in enumerate(value):
            item(one, f"{path}[{number}]")
    return check


def named(item):
    def check(value: Any, path: str) -> None:
        assert isinstance(value, dict), (path, value)
        for name, one in value.items():
            item(one, f"{path}.{name}")
    return check


def record(required: str = "", **fields):
    def check(value: Any, path: str) -> None:
        assert isinstance(value, dict), (path, value)
        assert set(required.split()) <= set(value), (path, "lacks", set(required.split()) - set(value))
        for name, one in value.items():
            assert name in fields, f"{path}.{name} is not in the schema"
            fields[name](one, f"{path}.{name}")
    return check


INT64, UINT64 = whole(-2**63, 2**63 - 1), whole(0, 2**64 - 1)
UINT32, MODE = whole(0, 2**32 - 1), whole(0, 0o777)
TEXTS = many(text())
IDS = many(record("containerID hostID size", containerID=UINT32, hostID=UINT32, size=UINT32))
CAPABILITIES = many(text("CAP_[A-Z_]+"))

PROCESS = record(
    "cwd args", args=TEXTS, cwd=text("/.*"), env=many(text("(?s)[^=]+=.*")), terminal=flag,
    user=record("uid gid", uid=UINT32, gid=UINT32, umask=UINT32, additionalGids=many(UINT32)),
    capabilities=record("", **dict.fromkeys(
        ("bounding", "permitted", "effective", "inheritable", "ambient"), CAPABILITIES)),
    noNewPrivileges=flag, oomScoreAdj=whole(-1000, 1000),
    rlimits=many(record("type soft hard", type=text("RLIMIT_[A-Z]+"), soft=UINT64, hard=UINT64)),
)

RESOURCES = record(
    devices=many(record("allow", allow=flag, type=text("[a-z]?"), major=INT64, minor=INT64,
                        access=text("[rwm]*"))),
    memory=record(limit=INT64, reservation=INT64, swap=INT64),
    cpu=record(shares=UINT64, quota=INT64, period=UINT64),
    pids=record("limit", limit=INT64),
)

SECCOMP = record(
    "defaultAction", defaultAction=one_of(SECCOMP_ACTIONS), defaultErrnoRet=UINT32,
    architectures=many(text("SCMP_ARCH_[A-Z0-9_]+")),
    syscalls=many(record(
        "names action", names=TEXTS, action=one_of(SECCOMP_ACTIONS), errnoRet=UINT32,
        args=many(record("index value op", index=UINT32, value=UINT64, valueTwo=UINT64,
                         op=one_of(SECCOMP_OPERATORS))))),
)

LINUX = record(
    namespaces=many(record("type", type=one_of(NAMESPACES), path=text("/.*"))),
    uidMappings=IDS, gidMappings=IDS, sysctl=named(text()), cgroupsPath=text("/.*"),
    devices=many(record("type path", type=text("[cbup]"), path=text("/.*"), major=INT64, minor=INT64,
                        fileMode=MODE, uid=UINT32, gid=UINT32)),
    resources=RESOURCES, seccomp=SECCOMP, maskedPaths=TEXTS, readonlyPaths=TEXTS,
    rootfsPropagation=one_of({"private", "shared", "slave", "unbindable"}),
)

CONFIG = record(
    "ociVersion process root linux",
    ociVersion=text(r"1\.\d+\.\d+.*"), process=PROCESS,
    root=record("path", path=text("/.*"), readonly=flag), hostname=text(),
    mounts=many(record("destination", destination=text("/.*"), source=text(), type=text(), options=TEXTS)),
    linux=LINUX, annotations=named(text()),
)


def check(config: dict) -> None:
    """Fails unless `config` is what the schema calls a configuration for Linux."""
    CONFIG(config, "config")
    kinds = [one["type"] for one in config["linux"].get("namespaces", [])]
    assert len(kinds) == len(set(kinds)), f"a namespace is named twice: {kinds}"
