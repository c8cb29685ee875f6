"""Waiting for what comes, on machines that may be slow and busy."""

import time
from collections.abc import Callable
from typing import Any

import dcos


def until(what: str, found: Callable[[], Any], timeout: float = 180) -> Any:
    """What is found, once there is something; an error of the cluster means that there is nothing yet."""
    deadline = time.monotonic() + timeout
    last: Any = None
    while time.monotonic() < deadline:
        try:
            if last := found():
                return last
        except (dcos.DcosError, LookupError, ValueError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {timeout} s; last: {last!r}")
