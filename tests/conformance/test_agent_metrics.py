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

        # The master may know of an agent before the agent knows that.
        before = eventually("its registration", lambda: metrics()["slave/registered"] == 1 and metrics())
        assert [name for name in RECORDED if name not in before and not name.startswith(ABSENT)] == []
        assert before["slave/cpus_total"] == 16
        for command in ("true", "exit 1"):
            run(cluster, Tasks(2, command))

        def ended():
            now = metrics()
            busy = [now[f"slave/{what}"] for what in ("tasks_running", "executors_running", "cpus_used")]
            return now if now["slave/executors_terminated"] == 4 and not any(busy) else None

        after = eventually("the end of all", ended)
        assert (after["slave/tasks_finished"], after["slave/tasks_failed"]) == (2, 2)
        assert after["slave/valid_status_updates"] >= 8
        assert after["slave/invalid_status_updates"] == after["slave/container_launch_errors"] == 0
