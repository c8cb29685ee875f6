"""An agent counts what an original Mesos 1.11 agent counts, under the same names."""

import json
from pathlib import Path

from cluster import Cluster, eventually, get
from test_pymesos import Tasks, run

RECORDED = json.loads((Path(__file__).parent / "recorded" / "mesos-1.11-agent-metrics.json").read_text())
# There are no resource providers, and roots are no longer bound.
ABSENT = ("resource_provider_manager/", "containerizer/mesos/provisioner/")


def test_names_and_numbers():
    with Cluster(master_flags={"only": "master"}) as cluster:
        def metrics():
            return get(f"http://127.0.0.1:{cluster.agent_port}/metrics/snapshot")

        before = metrics()
        assert [name for name in RECORDED if name not in before and not name.startswith(ABSENT)] == []
        assert before["slave/registered"] == 1
        assert before["slave/cpus_total"] == 16
        for command in ("true", "exit 1"):
            run(cluster, Tasks(2, command), 60)
        after = eventually("the end of all", lambda: metrics()["slave/executors_terminated"] == 4 and metrics())
        assert (after["slave/tasks_finished"], after["slave/tasks_failed"]) == (2, 2)
        assert after["slave/tasks_running"] == after["slave/executors_running"] == after["slave/cpus_used"] == 0
        assert after["slave/valid_status_updates"] >= 8
        assert after["slave/invalid_status_updates"] == after["slave/container_launch_errors"] == 0
