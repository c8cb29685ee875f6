"""The example of an own orchestrator, on a real master and agent: it upgrades, and goes on where it was killed."""

import json
import subprocess
from pathlib import Path

from cluster import Cluster, binary, eventually, get

EXAMPLE = Path(binary("dcos")).parent / "examples" / "custom_orchestrator"


def app(command: str, instances: int = 3, most: int = 3) -> str:
    return json.dumps({
        "id": "/web", "cmd": command, "instances": instances, "cpus": 0.1, "mem": 32,
        "constraints": [["hostname", "MAX_PER", str(most)]],
        "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0},
        "healthChecks": [{"protocol": "COMMAND", "command": {"value": "test -w ."}, "intervalSeconds": 1, "delaySeconds": 0}],
    })


class Orchestrator:
    """One life of the example."""

    def __init__(self, cluster: Cluster, *apps: str) -> None:
        assert EXAMPLE.exists(), "`make test` builds it, and `cargo build --example custom_orchestrator`"
        self.process = subprocess.Popen(
            [EXAMPLE, cluster.master, cluster.folder / "copies", *apps], stdout=subprocess.PIPE, text=True,
        )
        assert self.process.stdout
        self.lines = self.process.stdout
        self.url = self.lines.readline().split()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.lines.close()

    def instances(self):
        return {one["id"]: one for one in get(self.url)}

    def healthy(self, count: int):
        """The instances, once so many run and pass their check."""
        def look():
            there = self.instances()
            well = [one for one in there.values() if one["condition"] == "Running" and one.get("healthy")]
            return there if len(well) == len(there) == count else None
        return eventually(f"{count} healthy instances", look, timeout=180)


def running(cluster: Cluster) -> set[str]:
    """Names of the tasks that the master knows to run."""
    frameworks = [each for each in cluster.state()["frameworks"] if each["name"] == "copies"]
    return {task["id"] for each in frameworks for task in each["tasks"] if task["state"] == "TASK_RUNNING"}


def tasks(instances) -> set[str]:
    return {one["taskId"] for one in instances.values()}


def test_an_app_is_upgraded_and_a_killed_orchestrator_goes_on():
    with Cluster() as cluster:
        with Orchestrator(cluster, app("sleep 1000")) as first:
            assert first.lines.readline() == 'all copies of "sleep 1000" are healthy\n'
            old = first.healthy(3)
            assert running(cluster) == tasks(old)
        # Killed: what runs goes on, and the next life knows it.
        assert running(cluster) == tasks(old)
        with Orchestrator(cluster, app("sleep 1000"), app("sleep 2000")) as second:
            assert second.lines.readline() == 'all copies of "sleep 1000" are healthy\n'
            # In the middle of the upgrade.
            eventually("a new instance", lambda: second.instances().keys() - old.keys(), timeout=180)
        with Orchestrator(cluster, app("sleep 1000"), app("sleep 2000")) as third:
            assert third.lines.readline() == 'all copies of "sleep 2000" are healthy\n'
            new = third.healthy(3)
            assert not new.keys() & old.keys()
            eventually("the old tasks' end", lambda: running(cluster) == tasks(new))
        assert len([each for each in cluster.state()["frameworks"] if each["name"] == "copies"]) == 1


def test_constraints_hold_and_what_fails_is_replaced(tmp_path):
    wish = tmp_path / "fail"
    # Whoever takes the file away fails.
    command = f"while ! rm {wish} 2>/dev/null; do sleep 0.1; done; exit 1"
    with Cluster() as cluster, Orchestrator(cluster, app(command, instances=3, most=2)) as copies:
        two = copies.healthy(2)
        wish.touch()
        eventually("the end of one", lambda: tasks(two) - tasks(copies.instances()))
        again = copies.healthy(2)
        assert len(tasks(again) & tasks(two)) == 1
        assert running(cluster) == tasks(again)
