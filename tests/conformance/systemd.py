"""A systemd of a test's own: process 1 of namespaces, with units, runtime folder and cgroups that nobody else has."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from cluster import eventually

CGROUPS = Path("/sys/fs/cgroup")
SYSTEMD = "/lib/systemd/systemd"
# What units are ordered by unless they say otherwise.
TARGETS = ("sysinit", "basic", "shutdown", "all")

# What the kernel shows there is what lies below the cgroups this was started in.
BOOT = r"""
set -e
mount -t proc proc /proc
mounted=$(cut -d: -f2 /proc/self/cgroup)
mount -t tmpfs tmpfs /run
umount -R /sys/fs/cgroup
if [ "$HIERARCHIES" = unified ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs tmpfs /sys/fs/cgroup
    for one in $mounted; do
        folder=/sys/fs/cgroup/${one#name=}
        options=$one
        case $one in name=*) options=none,$one ;; esac
        mkdir "$folder"
        mount -t cgroup -o "$options" cgroup "$folder"
    done
    mkdir /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi
exec "$SYSTEMD" --system --unit=all.target --log-target=console
"""


def why_not(hierarchies: str) -> str | None:
    """Why there can be no systemd here."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path(SYSTEMD).exists() or not shutil.which("nsenter"):
        return "needs systemd and nsenter"
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    if hierarchies == "hybrid" and not any(":name=systemd:" in line for line in lines):
        return "needs cgroup hierarchies of version 1"
    return None if any(line.startswith("0::") for line in lines) else "needs cgroups of version 2"


class Systemd:
    """Runs units; `hierarchies` is `hybrid` for versions 1 and 2 of cgroups side by side, or `unified` for 2 alone."""

    def __init__(self, folder: Path, hierarchies: str) -> None:
        self.units, self.log = folder / "units", folder / "systemd.log"
        self.units.mkdir()
        for target in TARGETS:
            (self.units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        self.hierarchies = hierarchies
        self.name = f"dcos-conformance-{uuid.uuid4().hex[:12]}"
        self.process: subprocess.Popen[bytes] | None = None
        self.first = 0

    def folders(self) -> list[Path]:
        """Its cgroups, one in each hierarchy."""
        if (CGROUPS / "cgroup.controllers").exists():
            return [CGROUPS / self.name]
        return [place / self.name for place in CGROUPS.iterdir() if (place / "cgroup.procs").exists()]

    def enter(self) -> None:
        for folder in self.folders():
            folder.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (folder / name).exists() and (folder.parent / name).exists():
                    (folder / name).write_text((folder.parent / name).read_text())
            (folder / "cgroup.procs").write_text("0")

    def __enter__(self) -> Systemd:
        # A process of its own enters the cgroups, for it cannot go back.
        environment = {**os.environ, "container": "test", "HIERARCHIES": self.hierarchies, "SYSTEMD": SYSTEMD,
                       "SYSTEMD_UNIT_PATH": f"/run/systemd/system:{self.units}"}
        unshare = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--kill-child",
                   "bash", "-c", BOOT]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(unshare, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=self.enter, start_new_session=True)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.first = int(eventually("the first process", lambda: children.read_text().split())[0])
        try:
            eventually("systemd", lambda: self.control("is-active", "all.target").stdout.strip() == "active")
        except AssertionError:
            print(self.log.read_text())
            self.__exit__()
            raise
        return self

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`systemctl` with these words."""
        enter = ["nsenter", "-t", str(self.first), "--mount", "--pid", "--cgroup"]
        return subprocess.run([*enter, "systemctl", *words], capture_output=True, text=True, timeout=180)

    def show(self, unit: str, what: str) -> str:
        return self.control("show", "--value", "-p", what, unit).stdout.strip()

    def __exit__(self, *_: object) -> None:
        assert self.process
        # With it goes all that ever ran in its namespaces.
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 30
        for folder in self.folders():
            while folder.exists() and time.monotonic() < deadline:
                for below, _, _ in os.walk(folder, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(below)
