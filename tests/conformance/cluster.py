"""A one-node cluster of our programs for the time of a test."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas import SERVICES

ROOT = Path(__file__).resolve().parents[2]


def binary(name: str) -> str:
    """The path of one of our programs: as built by `cargo build`, or from `DCOS_BIN`."""
    if folder := os.environ.get("DCOS_BIN"):
        return str(Path(folder) / name)
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    return str(Path(json.loads(metadata.stdout)["target_directory"]) / "debug" / name)


_given: set[int] = set()

# Of workers beside each other (pytest-xdist) each has ports of its own: one looks for a port that the other is about to take,
# and to tasks of one the other's agents would give the same ports.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

# What agents have for tasks; those of `dcos local` begin at 31000.
TASK_PORTS = range(30_000 + 1000 // WORKERS * WORKER, 30_000 + 1000 // WORKERS * (WORKER + 1))
PORTS = f"ports:[{TASK_PORTS[0]}-{TASK_PORTS[-1]}]"


def free_port() -> int:
    """A port nobody has, each once; below those that `dcos local --free-ports` chooses, and those the kernel gives to
    connections, so that none takes it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(10_000 + WORKER, 20_000, WORKERS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def get(url: str, timeout: float = 60) -> Any:
    """The JSON at `url`."""
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return json.loads(response.read())


def eventually(what: str, condition: Callable[[], Any], timeout: float = 120) -> Any:
    """Waits until `condition` returns something true, and returns that.

    The time is for machines that are slow and busy: only who waits in vain ever waits so long. What is not there yet shows
    in errors of many kinds, so any of `condition` means that it has not happened; but for a failed assertion, which ends all.
    """
    deadline = time.monotonic() + timeout
    last: Any = None
    while time.monotonic() < deadline:
        try:
            if last := condition():
                return last
        except AssertionError:
            raise
        except Exception as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {timeout} s; last: {last!r}")


def launchers(folder: Path) -> list[int]:
    """Numbers of the launchers that listen below `folder`, and of the first processes of their containers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # One that ends meanwhile is not to be found.
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"--socket" in words and any(word.startswith(bytes(folder) + b"/") for word in words):
                found.append(int(process.name))
    return found


def end_launchers(folder: Path) -> None:
    """Ends launchers that agents left below `folder`, with all that runs there."""
    for process in launchers(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    eventually("the launchers' end", lambda: not launchers(folder))


class Program:
    """One of our programs, its output kept in a file."""

    def __init__(self, name: str, flags: dict[str, Any], log: Path, env: dict[str, str]) -> None:
        self.name, self.flags, self.log, self.env = name, flags, log, env
        self.process: subprocess.Popen[bytes] | None = None
        # What its command begins with: what makes it somebody else's, say.
        self.prefix: list[str] = []
        # The name and the path of a socket that the program is given as systemd does it.
        self.passed: tuple[str, Path] | None = None

    def start(self) -> None:
        flags = [f"--{key}={value}" for key, value in self.flags.items()]
        with self.log.open("ab") as log, socket.socket(socket.AF_UNIX) as given:
            self.process = subprocess.Popen(
                [*self.prefix, *self.passing(given), binary(self.name), *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "RUST_BACKTRACE": "1", **self.env}, start_new_session=True,
                pass_fds=[given.fileno()] if self.passed else [],
            )

    def passing(self, given: socket.socket) -> list[str]:
        """What a command begins with so that it finds `given` where systemd leaves sockets."""
        if not self.passed:
            return []
        name, path = self.passed
        path.unlink(missing_ok=True)
        given.bind(str(path))
        given.listen()
        script = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update("
                  "LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES=sys.argv[2]); "
                  "os.execv(sys.argv[3], sys.argv[3:])")
        return [sys.executable, "-c", script, str(given.fileno()), name]

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As a crash would: SIGKILL."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if not self.process or not self.running():
            return
        self.process.send_signal(how)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not stop on {how.name}", file=sys.stderr)
            self.kill()


class Cluster:
    """A master (with Marathon) and an agent, each on ports of its own on loopback."""

    def __init__(
        self, agent_flags: dict[str, Any] | None = None, master_flags: dict[str, Any] | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
        self.master_port, self.marathon_port = free_port(), free_port()
        self.metronome_port = free_port()
        self.dns_port, self.mesos_dns_port = free_port(), free_port()
        self.agent_port = free_port()
        SERVICES.update({self.marathon_port: "marathon", self.metronome_port: "metronome"})
        self.master = f"127.0.0.1:{self.master_port}"
        self.marathon = f"http://127.0.0.1:{self.marathon_port}"
        self.metronome = f"http://127.0.0.1:{self.metronome_port}"
        env = {"RUST_LOG": os.environ.get("RUST_LOG", "info")}
        self.master_program = Program("dcos-master", {
            "ip": "127.0.0.1", "port": self.master_port, "work_dir": self.folder / "master",
            "hostname": "127.0.0.1", "marathon_port": self.marathon_port,
            # Most tests count frameworks; those of jobs ask for it.
            "metronome_port": self.metronome_port, "without": "metronome",
            "dns_port": self.dns_port, "mesos_dns_port": self.mesos_dns_port, **(master_flags or {}),
        }, self.folder / "master.log", env)
        self.agent_program = Program("dcos-agent", {
            "ip": "127.0.0.1", "port": self.agent_port, "work_dir": self.folder / "agent",
            "runtime_dir": self.folder / "run", "hostname": "127.0.0.1", "master": self.master,
            "resources": f"cpus:16;mem:16384;disk:10000;{PORTS}",
            **(agent_flags or {"launcher": "posix", "isolation": "posix/cpu,posix/mem"}),
        }, self.folder / "agent.log", env)

    def __enter__(self) -> Cluster:
        self.master_program.start()
        self.agent_program.start()
        try:
            eventually("an agent's registration", self.agents)
            eventually("Marathon's answer", self.marathon_leads)
        except AssertionError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        # Signed off, an agent ends its tasks and its launcher; on SIGTERM it leaves both running, and so it does if
        # it was killed, or had no time to listen.
        try:
            self.agent_program.stop(signal.SIGUSR1)
            end_launchers(self.folder)
        finally:
            self.master_program.stop()
            for port in (self.marathon_port, self.metronome_port):
                SERVICES.pop(port, None)
            if failed:
                for program in (self.master_program, self.agent_program):
                    tail = program.log.read_text(errors="replace").splitlines()[-60:]
                    print(f"--- {program.log}", *tail, sep="\n", file=sys.stderr)
            shutil.rmtree(self.folder, ignore_errors=True)

    def marathon_leads(self) -> bool:
        """Whether it takes orders, if there is to be one."""
        flags = self.master_program.flags
        if "marathon" not in flags.get("only", "marathon") or "marathon" in flags.get("without", ""):
            return True
        try:
            return "apps" in get(f"{self.marathon}/v2/apps")
        except urllib.error.HTTPError as error:
            # Who asks for a password is there.
            return error.code == 401

    def state(self) -> Any:
        return get(f"http://{self.master}/state")

    def agents(self) -> Any:
        return get(f"http://{self.master}/slaves")["slaves"]

    def end_is_known(self) -> None:
        """Until the master has noticed that an agent ended, that one passes for the next."""
        eventually("the master's notice of the agent's end", lambda: self.state()["activated_slaves"] == 0)

    def start_agent(self) -> None:
        """Starts an agent that ended, and waits for its return."""
        self.end_is_known()
        self.agent_program.start()
        eventually("the agent's return", lambda: self.state()["activated_slaves"] == 1)
