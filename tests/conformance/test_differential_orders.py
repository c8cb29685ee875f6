"""Our master takes operators' orders as an original Mesos 1.11 master does, in the same words.

The original's answers are recorded in `recorded/mesos-1.11-orders.json` (see `differential_orders.py`).
Differences on purpose stand in INTENDED, each with its reason.
"""

import json
from pathlib import Path

import differential_orders
import pytest
from cluster import Cluster

RECORDED = json.loads((Path(__file__).parent / "recorded" / "mesos-1.11-orders.json").read_text())

READER = "says where and why the document can't be read"
# Name of the call -> why our answer differs.
INTENDED = {
    "machine down: nonsense": READER,
    "schedule: nonsense": READER,
    "weights: PUT of nonsense": READER,
    "weights: PUT of an object": READER,
    "schedule: no start": READER,
    "schedule: no unavailability": READER,
    "update weights: no weight": READER,
    "update quota: no role": READER,
    "set logging level: without duration": READER,
    "update framework: without info": READER,
    **dict.fromkeys((f"{call}: no id" for call in (
        "drain agent", "deactivate agent", "reactivate agent", "mark agent gone")), READER),
    "reactivate: gone": "the drain of an agent that is gone is forgotten with it",
    "update framework: endless failover timeout": "the number is written in full",
    "update framework: bad pattern": "another library of patterns, in other words",
}
# What only ours does, and how it answers.
MORE = {"drain: grace in words": (200, "durations may be written as flags have them")}


@pytest.fixture(scope="module")
def ours():
    with Cluster(
        {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "hostname": "node"}, {"without": "marathon,metronome"},
    ) as cluster:
        return differential_orders.answers(cluster.master)


def ordered(value):
    """Lists of objects in one order: the original's are in that of its hash maps."""
    if isinstance(value, dict):
        return {key: ordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((ordered(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


@pytest.mark.parametrize("name", RECORDED)
def test_same_answer(ours, name):
    original, answer = ordered(RECORDED[name]), ordered(ours[name])
    if name in MORE:
        assert (original["status"], answer["status"]) == (400, MORE[name][0])
    elif name in INTENDED:
        assert original != answer, "the difference is gone"
        assert answer["status"] == original["status"]
    else:
        assert answer == original
