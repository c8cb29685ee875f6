"""What our master answers to strangers and to those who may not, beside an original Mesos 1.11.

The original's answers are recorded in `recorded/mesos-1.11-security.json` (see `security.py`).
"""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import security
from cluster import Program, eventually, free_port

RECORDED = json.loads((Path(__file__).parent / "recorded" / "mesos-1.11-security.json").read_text())
# The recorded master ran inside of a test program, which guards fewer paths than Mesos's own.
UNGUARDED = ("/metrics/snapshot", "/files/debug", "/files/browse")
# Differences on purpose: whoever may not is told so before the machines are looked at.
INTENDED = ("guest: START_MAINTENANCE", "guest: STOP_MAINTENANCE")


@contextmanager
def guarded(folder: Path) -> Iterator[str]:
    """A master that guards its endpoints; its address."""
    port = free_port()
    master = Program("dcos-master", {
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": port, "work_dir": folder / "master",
        "only": "master", **security.flags(folder),
    }, folder / "log", {})
    master.start()
    try:
        health = f"http://127.0.0.1:{port}/health"
        eventually("an answer", lambda: urllib.request.urlopen(health, timeout=60).status == 200)
        yield f"127.0.0.1:{port}"
    finally:
        master.stop()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    with guarded(tmp_path_factory.mktemp("security")) as address:
        yield security.answers(address)


@pytest.mark.parametrize("name", RECORDED)
def test_same_answer(ours, name):
    if any(path in name for path in UNGUARDED):
        pytest.skip("the recorded master did not guard it")
    if name in INTENDED:
        assert ours[name]["status"] == 403
    else:
        assert ours[name] == RECORDED[name]
