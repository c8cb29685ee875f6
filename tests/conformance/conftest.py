import collections
import collections.abc

import docker_engine
import pytest
from cluster import Cluster

# The client `marathon` 0.13.0 is older than Python 3.10, which took this name away.
collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]


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
