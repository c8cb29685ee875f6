import collections
import collections.abc
import contextlib
import os
import signal
import time
import warnings
from pathlib import Path

import docker_engine
import pytest
from cluster import Cluster
from schemas import Watch

# The client `marathon` 0.13.0 is older than Python 3.10, which took this name away.
collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]


# What Marathon and Metronome answer to any test is held against schemas.
WATCH = Watch()
WATCH.install()


@pytest.fixture(autouse=True)
def answers_have_their_form():
    """A test fails if an answer that it got, or a fixture of it, has another form than the original's."""
    yield
    found, WATCH.found = sorted(set(WATCH.found)), []
    assert not found, "\n".join(found)


# What is started here has it in its environment, and so has what that starts: launchers go to the background.
MARK = f"DCOS_CONFORMANCE={os.getpid()}"
name, _, value = MARK.partition("=")
os.environ[name] = value


def programs():
    """Those of our programs that this run of the tests has started and that run, by number."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        # One that ends meanwhile is not to be found, and others' cannot be read.
        with contextlib.suppress(OSError):
            if MARK.encode() in (process / "environ").read_bytes().split(b"\0"):
                if (process / "comm").read_text(errors="replace").startswith("dcos-"):
                    found[int(process.name)] = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
    return found


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(request):
    """Whatever a module leaves running is ended, by its number, and told; not what ran before, which all tests share."""
    before = programs().keys()
    yield
    # Modules elsewhere, which pytest shows this too, may share a cluster.
    if Path(__file__).parent not in request.path.parents:
        return
    deadline = time.monotonic() + 20
    while (left := {process: program for process, program in programs().items() if process not in before}) and (
            time.monotonic() < deadline):
        time.sleep(0.1)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    if left:
        warnings.warn(f"programs were left running: {left}", stacklevel=1)


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def engine():
    if reason := docker_engine.why_not():
        pytest.skip(reason)
    with docker_engine.Engine() as engine:
        yield engine
