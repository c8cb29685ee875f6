"""Our master answers as an original Mesos 1.11 master does: status, headers, texts, keys and types.

The original's answers are recorded in `recorded/mesos-1.11.json` (see `differential.py`). Differences
on purpose, and what is missing, stand in `verdicts.py`, each with its reason.
"""

import differential
import pytest
from cluster import Cluster
from verdicts import RECORDED, compared, missing


@pytest.fixture(scope="module")
def ours():
    # As in the recording, the only framework is the one of the comparison.
    with Cluster(master_flags={"without": "marathon,metronome"}) as cluster:
        return differential.answers(cluster.master)


@pytest.mark.parametrize("name", RECORDED)
def test_same_answer(ours, name):
    found = compared(name, ours)
    if found and (why := missing(name)):
        pytest.xfail(why)
    assert not found
