"""Our master answers as an original Mesos 1.11 master does: status, headers, texts, keys and types.

The original's answers are recorded in `recorded/mesos-1.11.json` (see `differential.py`).
Differences on purpose stand in INTENDED, each with its reason.
"""

import json
from pathlib import Path

import differential
import pytest
from cluster import Cluster

RECORDED = json.loads((Path(__file__).parent / "recorded" / "mesos-1.11.json").read_text())

# Name of the call -> why our answer differs.
INTENDED = {
    "scheduler: not JSON": "says where and why the text is no JSON",
    "operator: not JSON": "says where and why the text is no JSON",
    "scheduler: subscribe lacking user": "names the field the same, in other words",
    "scheduler: JSON but no object": "says what was found instead of an object",
    "scheduler: acknowledge with no base64": "names the field by its place in the document",
    "scheduler: protobuf that is none": "says why the bytes are no Call",
    "executor: not JSON": "says where and why the text is no JSON",
    "executor: empty object": "names the first field that is missing, in other words",
    **dict.fromkeys(
        (f"agent operator {call} with a {task} task"
         for call in ("GET_EXECUTORS", "GET_STATE") for task in ("running", "killed")),
        "a command task's executor is its command: there is no program of the agent with arguments",
    ),
}


@pytest.fixture(scope="module")
def ours():
    # As in the recording, the only framework is the one of the comparison.
    with Cluster(master_flags={"without": "marathon"}) as cluster:
        return differential.answers(cluster.master)


def differences(original, answer, where=""):
    """What of `original` is missing or different in `answer`. Keys of ours beside it are fine."""
    if isinstance(original, dict) and isinstance(answer, dict):
        for key, value in original.items():
            if key not in answer:
                yield f"{where}.{key} is missing"
            else:
                yield from differences(value, answer[key], f"{where}.{key}")
    elif isinstance(original, list) and isinstance(answer, list):
        if original and answer:
            yield from differences(original[0], answer[0], f"{where}[0]")
        elif original:
            yield f"{where} is empty"
    elif original != answer:
        yield f"{where}: {answer!r} instead of {original!r}"


@pytest.mark.parametrize("name", RECORDED)
def test_same_answer(ours, name):
    original, answer = dict(RECORDED[name]), dict(ours[name])
    if name in INTENDED or "jsonp" in name:
        original.pop("body"), answer.pop("body")
    assert not list(differences(original, answer))
