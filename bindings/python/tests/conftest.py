import json
import os
import subprocess
from pathlib import Path

import pytest

import dcos

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def program() -> Path:
    """The CLI, as `cargo build` made it, or from `DCOS_BIN`."""
    if folder := os.environ.get("DCOS_BIN"):
        return Path(folder) / "dcos"
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    return Path(json.loads(metadata.stdout)["target_directory"]) / "debug" / "dcos"


@pytest.fixture(scope="session")
def cluster(program):
    with dcos.LocalCluster(program=program) as cluster:
        yield cluster
