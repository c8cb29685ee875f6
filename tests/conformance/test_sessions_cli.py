"""`dcos task exec`, `attach`, `ls`, `download`, `metrics`, in a pipe and in a terminal."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time

import pytest
from cluster import Cluster, binary
from session import deploy


@pytest.fixture(scope="module")
def node():
    with Cluster() as cluster:
        deploy(cluster, "host", cmd="echo hello; sleep 1000")
        deploy(cluster, "shell", cmd="while read line; do echo \"<$line>\"; done", tty=True)
        yield cluster


def dcos(node, *words: str, **how) -> subprocess.CompletedProcess:
    command = [binary("dcos"), "--master", f"http://{node.master}", "task", *words]
    return subprocess.run(command, capture_output=True, timeout=180, check=False, **how)


def test_exec_passes_streams_and_exit_code(node):
    ran = dcos(node, "exec", "host", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"out\n", b"err\n", 42)
    assert dcos(node, "exec", "host", "sh", "-c", "kill -9 $$").returncode == 137
    data = os.urandom(2_000_000)
    assert dcos(node, "exec", "-i", "host", "cat", input=data).stdout == data
    missing = dcos(node, "exec", "host", "/no/such/program")
    assert missing.returncode == 1
    assert b"/no/such/program" in missing.stderr


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, node, *words: str) -> None:
        self.process, self.said = None, b""
        pid, self.master = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 19, 71, 0, 0))
            os.execv(binary("dcos"), ["dcos", "--master", f"http://{node.master}", "task", *words])
        self.pid = pid

    def until(self, text: bytes, timeout: float = 120, typing: bytes = b"") -> None:
        """Reads until it said `text`; what is to be typed is typed again every two seconds."""
        begin = typed = time.monotonic()
        self.type(typing)
        while text not in self.said:
            now = time.monotonic()
            assert now < begin + timeout, self.said
            if typing and now > typed + 2:
                typed = now
                self.type(typing)
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self.master, 65536)
                except OSError:
                    assert text in self.said, self.said
        self.said = self.said.split(text, 1)[1]

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    os.read(self.master, 65536)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.master)
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("it did not end")


def test_exec_in_a_terminal(node):
    terminal = Terminal(node, "exec", "-it", "host", "sh")
    terminal.type(b"stty size; echo re''ady\n")
    terminal.until(b"19 71")
    terminal.until(b"ready")
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 99, 0, 0))
    # The new size is on its way beside what is typed.
    terminal.until(b"40 99", typing=b"stty size\n")
    terminal.type(b"echo sle''eping; sleep 1000\n")
    terminal.until(b"sleeping")
    # Ctrl-C ends the program, not the session; it may come a moment before the program begins.
    terminal.until(b"alive", typing=b"\x03echo al''ive\n")
    terminal.type(b"exit 6\n")
    assert terminal.end() == 6


def test_attach_and_leave(node):
    terminal = Terminal(node, "attach", "shell")
    terminal.until(b"<hello>", typing=b"hello\n")
    terminal.type(b"\x10\x11")
    assert terminal.end() == 0
    again = Terminal(node, "attach", "shell")
    again.until(b"<once more>", typing=b"once more\n")
    again.type(b"\x10\x11")
    assert again.end() == 0


def test_files_and_figures(node, tmp_path):
    assert b"stdout" in dcos(node, "ls", "host").stdout
    dcos(node, "exec", "host", "sh", "-c", "mkdir -p deep/er; head -c 200000 /dev/zero > deep/er/file")
    assert dcos(node, "download", "host", "--target-dir", str(tmp_path)).returncode == 0
    assert (tmp_path / "stdout").read_text() == "hello\n"
    assert (tmp_path / "deep/er/file").stat().st_size == 200_000
    assert dcos(node, "download", "host", "nothing", "--target-dir", str(tmp_path)).returncode == 1
    summary = dcos(node, "metrics", "summary", "host").stdout.decode()
    assert summary.split()[:3] == ["CPU", "MEM", "DISK"]
    command = [binary("dcos"), "--master", f"http://{node.master}", "--json", "task", "metrics", "details", "host"]
    figures = json.loads(subprocess.run(command, capture_output=True, timeout=180, check=True).stdout)
    assert figures["timestamp"] > 0
