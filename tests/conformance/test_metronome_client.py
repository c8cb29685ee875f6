"""The unmodified PyPI client `dcos-metronome` 0.3.0 on our Metronome, in a process of its own: it needs an old protobuf."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster, eventually
from test_metronome import Api

CLIENT = Path(sys.prefix) / "dcos-metronome"


@pytest.mark.skipif(not CLIENT.exists(), reason="dcos-metronome is not installed (`tests/conformance/install.sh`)")
def test_a_jobs_life():
    with Cluster(master_flags={"without": "dns"}) as cluster:
        eventually("Metronome's answer", lambda: Api(cluster)("GET", "/v1/jobs") == [])
        script = Path(__file__).parent / "metronome_client.py"
        # What it generated is of a time when protobuf had descriptors made in Python.
        env = {**os.environ, "PYTHONPATH": str(CLIENT), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
        ended = subprocess.run([sys.executable, script, cluster.metronome], env=env, capture_output=True, text=True, timeout=180)
        assert ended.returncode == 0, ended.stdout + ended.stderr
