"""A real Mesos 1.11 for the time of a test, where there is one.

The environment variable `MESOS_REFERENCE` names a directory with the original's programs:
`mesos-local` (a master, or agents for another master, with every flag as `MESOS_<FLAG>`) and
`mesos-containerizer`. Tests that need them are skipped where it is not set.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from cluster import PORTS, eventually, get

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(os.environ["MESOS_REFERENCE"]) if "MESOS_REFERENCE" in os.environ else None

AVAILABLE = PROGRAMS is not None and (PROGRAMS / "mesos-local").exists() and os.geteuid() == 0

needed = pytest.mark.skipif(
    not AVAILABLE,
    reason="skipped: MESOS_REFERENCE names no directory with an original's mesos-local, or not root",
)


class Original:
    """An original process below `folder`: a master, or an agent of the master at `of`."""

    def __init__(self, folder: Path, port: int, of: str | None = None, **flags: Any) -> None:
        assert PROGRAMS
        self.folder, self.port, self.of = folder, port, of
        self.address = f"127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"
        launcher = folder / "libexec"
        launcher.mkdir(parents=True, exist_ok=True)
        for program in ("mesos-containerizer", "mesos-io-switchboard"):
            if not (launcher / program).exists():
                (launcher / program).symlink_to(PROGRAMS / program)
        # The original's own is in C++; this one speaks the same API and outlives its agent.
        executor = launcher / "mesos-executor"
        executor.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/command_executor.py" "$@"\n')
        executor.chmod(0o755)
        self.environment = {
            **os.environ,
            "LIBPROCESS_IP": "127.0.0.1", "LIBPROCESS_PORT": str(port),
            "MESOS_NUM_SLAVES": "1" if of else "0", "MESOS_WORK_DIR": str(folder / "work"),
            "MESOS_LAUNCHER_DIR": str(launcher), "MESOS_HOSTNAME": "127.0.0.1",
            "MESOS_REGISTRY": "in_memory", "MESOS_LAUNCHER": "posix",
            "MESOS_ISOLATION": "posix/cpu,posix/mem", "MESOS_CONTAINERIZERS": "mesos",
            "MESOS_RESOURCES": f"cpus:16;mem:16384;disk:10000;{PORTS}",
            "MESOS_SYSTEMD_ENABLE_SUPPORT": "false",
            **({"MESOS_REF_MASTER": of} if of else {}),
            **{f"MESOS_{name.upper()}": str(value) for name, value in flags.items()},
        }

    @property
    def work_dir(self) -> Path:
        """The agent's own."""
        return self.folder / "work" / "agents" / "0" / "work"

    def start(self) -> Original:
        assert PROGRAMS
        (self.folder / "work").mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", str(PROGRAMS / "mesos-local")],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )
        eventually("the original's start", self.answers)
        return self

    def answers(self) -> bool:
        """Whether it has registered, or leads; if it wants credentials, whether it says so."""
        where = "/slave(1)/state" if self.of else "/state"
        try:
            return bool(get(f"http://{self.address}{where}")["id"])
        except urllib.error.HTTPError as error:
            return error.code == 401

    def kill(self) -> None:
        """As a crash would, and as an upgrade does: what it launched goes on."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def resident_megabytes(self) -> float:
        assert self.process
        return resident_megabytes(self.process.pid)


def resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def remove(folder: Path) -> None:
    """Ends whatever still works below `folder`, and deletes it."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"{folder}/".encode() in (directory / "environ").read_bytes()
            if mine and int(directory.name) != os.getpid():
                os.kill(int(directory.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue
    shutil.rmtree(folder, ignore_errors=True)
