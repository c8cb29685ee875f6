"""A network of one's own for this process and all it starts: nothing outside notices."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

# The address of this host there, and the one behind which everything else would be.
ADDRESS, BEYOND = "10.99.0.1", "10.99.0.2"


def run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


def check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def own_network() -> Iterator[None]:
    """Loopback, one interface, and a default route that leads nowhere. It is gone with the last process in it."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        check(LIBC.unshare(CLONE_NEWNET))
        for command in (
            "ip link set lo up", "ip link add eth0 type veth peer name beyond", "ip link set beyond up",
            f"ip addr add {ADDRESS}/24 dev eth0", "ip link set eth0 up", f"ip route add default via {BEYOND}",
        ):
            run(command)
        yield
    finally:
        check(LIBC.setns(before, CLONE_NEWNET))
        os.close(before)
