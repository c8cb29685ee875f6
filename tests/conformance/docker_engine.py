"""A Docker Engine of a test's own, and what is needed to ask it."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from cluster import eventually

IMAGE = "house/tools:1"
# Debian's own Perl, which is small.
PERL = "/usr/lib/x86_64-linux-gnu/perl-base"
# Answers each HTTP request on the port that is its argument.
SERVER = (
    "exec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => shift, Listen => 9,"
    " ReuseAddr => 1) or die $@; while (my $c = $s->accept) { while (<$c>) { last if /^\\r?$/ }"
    " print $c \"HTTP/1.0 200 OK\\r\\n\\r\\nhello\"; close $c }' "
)


def why_not() -> str | None:
    """Why there can be no engine here."""
    if os.geteuid() != 0:
        return "Docker Engine needs root"
    if not shutil.which("dockerd"):
        return "there is no dockerd"
    return None


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=180)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


class Engine:
    """`dockerd` with a folder, a bridge and a socket of its own."""

    def __init__(self, live_restore: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dcos-docker-"))
        self.socket = self.folder / "docker.sock"
        self.live_restore = live_restore
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        flags = {
            "host": f"unix://{self.socket}", "data-root": self.folder / "data",
            "exec-root": self.folder / "exec", "pidfile": self.folder / "docker.pid",
            "live-restore": str(self.live_restore).lower(), "bip": "172.31.78.1/24",
        }
        # One that was killed leaves it, and its number may be another process's by now.
        (self.folder / "docker.pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["dockerd", *(f"--{key}={value}" for key, value in flags.items())],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )
        eventually("an engine", lambda: self.ask("GET", "/_ping") is not None, timeout=180)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process
        number = self.folder / "exec/containerd/containerd.pid"
        containerd = number.read_text() if number.exists() else "none"
        self.process.send_signal(how)
        self.process.wait(60)
        # Its containerd dies with it, a little later: the next one would take it for its own.
        eventually("containerd's end", lambda: not Path("/proc", containerd).exists())

    def __enter__(self) -> Engine:
        self.start()
        self.ask("POST", "/images/create?fromSrc=-&repo=house/tools&tag=1", rootfs(),
                 {"Content-Type": "application/x-tar"})
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        for one in self.containers():
            self.ask("DELETE", f"/containers/{one['Id']}?force=true&v=true")
        # A bridge would stay, and the next engine's network have two ways.
        self.ask("POST", "/networks/prune")
        self.stop()
        if failed:
            print((self.folder / "log").read_text(errors="replace")[-4000:])
        # It leaves mounts where it was killed.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(str(self.folder))), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method: str, path: str, body: bytes | dict[str, Any] | None = None,
            headers: dict[str, str] | None = None) -> Any:
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        connection = Connection(self.socket)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise ValueError(f"{method} {path}: {answer.status} {text!r}")
        try:
            return json.loads(text)
        except ValueError:
            return text

    def containers(self, running: bool = False) -> list[dict[str, Any]]:
        return self.ask("GET", "/containers/json" + ("" if running else "?all=true"))


def rootfs() -> bytes:
    """A few of this machine's programs and their libraries, as a tar file."""
    names = ["sh", "cat", "sleep", "echo", "printf", "env", "head", "kill", "id", "stty", "perl"]
    # Wherever they are found: `/bin` may be a link to `/usr/bin`, which the image has not.
    programs = {Path("/bin") / name for name in names if shutil.which(name)}
    files = set(programs)
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        files |= {Path(found) for found in re.findall(r"(/\S+) \(", listed)}
    # A program that can listen, and what it is made of.
    names = subprocess.run(["/usr/bin/perl", "-MIO::Socket::INET", "-e", "print join qq(\n), values %INC"],
                           capture_output=True, text=True, check=True).stdout
    files |= {Path(name) for name in names.splitlines()}
    files |= {found for name in ("IO", "Socket") for found in Path(PERL, "auto", name).glob("*.so")}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in sorted(files):
            tar.add(os.path.realpath(file), arcname=str(file))
        for name in ("tmp", "proc", "sys", "dev", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    return archive.getvalue()
