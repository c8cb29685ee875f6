import pytest
from cluster import Cluster


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster
