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
while [ ! -e "$GO" ]; do sleep 0.05; done
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
    """Runs units; `hierarchies` is `hybrid` for versions 1 and 2 of cgroups side by side, or `unified` for 2 alone, with
    `controllers` as many as the host has of version 2."""

    def __init__(self, folder: Path, hierarchies: str, controllers: bool = False) -> None:
        self.controllers, self.go = controllers, folder / "go"
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

    def second(self) -> Path:
        """Its cgroup of version 2."""
        return next(folder for folder in self.folders() if (folder.parent / "cgroup.controllers").exists())

    def hand_on(self, folder: Path) -> None:
        """Has what is below a cgroup have all controllers that it has itself."""
        own = (folder / "cgroup.controllers").read_text().split()
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in own))

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
                       "GO": str(self.go),
                       "SYSTEMD_UNIT_PATH": f"/run/systemd/system:{self.units}"}
        unshare = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--kill-child",
                   "bash", "-c", BOOT]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(unshare, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=self.enter, start_new_session=True)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.first = int(eventually("the first process", lambda: children.read_text().split())[0])
        if self.controllers:
            # A cgroup that hands them on holds no processes: systemd leaves it, and who waits for systemd is not asked.
            self.hand_on(self.second().parent)
            outside = self.second() / "outside"
            outside.mkdir()
            (outside / "cgroup.procs").write_text(str(self.process.pid))
        self.go.touch()
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


USER = """
[Service]
Type=notify
User={number}
Environment=XDG_RUNTIME_DIR=/run/user/{number} SYSTEMD_UNIT_PATH={units}: PATH={path}
ExecStartPre=+install -d -o {number} -g {group} -m 700 /run/user/{number}
ExecStart=/lib/systemd/systemd --user --log-target=console
Delegate=yes
KillMode=mixed
TasksMax=infinity
"""


# The bus of the system, over which a user's systemd asks the first process to move what only that may.
BUS = {
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    "dbus.service": "[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\n"
                    "ExecStart=dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n",
}


def why_no_users(hierarchies: str) -> str | None:
    """Why users can have no systemd here."""
    needed = ("/usr/bin/dbus-daemon", "/usr/bin/busctl", "/usr/lib/systemd/user/dbus.socket")
    if missing := [path for path in needed if not Path(path).exists()]:
        return f"there is no {missing[0]} (Debian's packages `systemd`, `dbus-user-session`)"
    return why_not(hierarchies)


class UserManager:
    """The systemd of a user of such a host, as a login begins it: what `systemctl --user` speaks to."""

    def __init__(self, host: Systemd, number: int, group: int, folder: Path) -> None:
        self.host, self.number, self.group, self.units = host, number, group, folder / "units"
        self.unit = f"user@{number}.service"

    def __enter__(self) -> UserManager:
        self.units.mkdir()
        for name, text in BUS.items():
            (self.host.units / name).write_text(text)
        started = self.host.control("start", "dbus.service")
        assert started.returncode == 0, started.stderr + self.host.log.read_text()
        (self.host.units / self.unit).write_text(USER.format(
            number=self.number, group=self.group, units=self.units, path=os.environ["PATH"]))
        started = self.host.control("start", self.unit)
        assert started.returncode == 0, started.stderr + self.host.log.read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self.host.control("stop", self.unit)

    def command(self, *words: str) -> list[str]:
        """Such a command, as one of the user's who is logged in."""
        return ["nsenter", "-t", str(self.host.first), "--mount", "--pid", "--cgroup", "setpriv", f"--reuid={self.number}",
                f"--regid={self.group}", "--init-groups", "env", f"XDG_RUNTIME_DIR=/run/user/{self.number}", *words]

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`systemctl --user` with these words."""
        return subprocess.run(self.command("systemctl", "--user", *words), capture_output=True, text=True, timeout=180)

    def show(self, unit: str, what: str) -> str:
        return self.control("show", "--value", "-p", what, unit).stdout.strip()

    @property
    def folder(self) -> Path:
        """Its cgroup of version 2."""
        [found] = self.host.second().rglob(self.unit)
        return found
