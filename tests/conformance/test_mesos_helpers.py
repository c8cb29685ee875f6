"""`mesos-execute` and `mesos-resolve`, which `dcos` is when it is called by their names."""

import json
import subprocess
from pathlib import Path

import pytest
from cluster import Cluster, binary, eventually
from test_zookeeper import JAR, Ensemble

SMALL = "--resources=cpus:0.1;mem:32"


@pytest.fixture(scope="module")
def helpers(tmp_path_factory):
    """A folder with links, as one puts them beside `dcos`."""
    folder = tmp_path_factory.mktemp("helpers")
    for name in ("mesos-execute", "mesos-resolve"):
        (folder / name).symlink_to(binary("dcos"))
    return folder


def run(helper: Path, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([helper, *flags], capture_output=True, text=True, timeout=180)


def states(done: subprocess.CompletedProcess, task: str) -> list[str]:
    lines = [line for line in done.stdout.splitlines() if line.endswith(f"for task '{task}'")]
    return [line.split()[3] for line in lines]


@pytest.mark.parametrize("content_type", ["protobuf", "json"])
def test_a_command_runs_and_is_told_of_as_the_original_does(cluster, helpers, content_type):
    done = run(
        helpers / "mesos-execute", f"--master={cluster.master}", f"--name=one-{content_type}", SMALL,
        '--command=test "$A" = b && exit 3', '--env={"A": "b"}', f"--content_type={content_type}",
    )
    # As in the original: how the task ended is told, and no failure of the program.
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Subscribed with ID ")
    assert f"Submitted task 'one-{content_type}' to agent '" in done.stdout
    assert states(done, f"one-{content_type}") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
    assert "  message: 'Command exited with status 3'" in done.stdout
    assert "  source: SOURCE_EXECUTOR" in done.stdout
    # Nothing stays behind.
    eventually("its framework's end", lambda: "mesos-execute instance" not in {
        framework["name"] for framework in cluster.state()["frameworks"]})


def test_a_task_is_killed_in_time_and_a_group_ends_as_one(cluster, helpers):
    done = run(
        binary("dcos"), "mesos-execute", f"--master={cluster.master}", "--name=long", SMALL,
        "--command=sleep 1000", "--kill_after=200ms",
    )
    assert "Asked to kill task 'long' on agent '" in done.stdout
    assert states(done, "long")[-1] == "TASK_KILLED"
    tasks = [{
        "name": name, "task_id": {"value": name}, "agent_id": {"value": ""}, "command": {"value": "true"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}],
    } for name in ("first", "second")]
    file = helpers / "group.json"
    file.write_text(json.dumps({"tasks": tasks}))
    done = run(helpers / "mesos-execute", f"--master={cluster.master}", f"--task_group=file://{file}")
    assert "Submitted task group with tasks [ first, second ] to agent '" in done.stdout
    assert states(done, "first")[-1] == states(done, "second")[-1] == "TASK_FINISHED"


def test_mistakes_are_told_before_anything_runs(cluster, helpers):
    execute = helpers / "mesos-execute"
    for flags, told in [
        (["--command=true"], "--name is missing"),
        (["--name=x"], "--command is missing"),
        (["--name=x", "--command=true", "--resources=cpus"], "--resources=cpus"),
        (["--nam=x"], "did you mean `name`"),
    ]:
        done = run(execute, f"--master={cluster.master}", *flags)
        assert done.returncode == 1 and told in done.stderr and done.stdout == "", done
    # What the master refuses ends it, too.
    done = run(execute, f"--master={cluster.master}", "--name=x", "--command=true", "--role=a role")
    assert done.returncode == 1 and "role" in done.stderr, done


def test_a_principal_proves_itself(helpers, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.write_text(json.dumps({"credentials": [{"principal": "me", "secret": "mine"}]}))
    secret = tmp_path / "secret"
    secret.write_text("mine\n")
    flags = {"credentials": str(credentials), "authenticate_http_frameworks": "true",
             "http_framework_authenticators": "basic", "without": "marathon,metronome"}
    with Cluster(master_flags=flags) as cluster:
        base = [f"--master={cluster.master}", "--name=x", "--command=true", SMALL, "--principal=me"]
        done = run(helpers / "mesos-execute", *base, f"--secret=file://{secret}")
        assert states(done, "x")[-1:] == ["TASK_FINISHED"], done
        done = run(helpers / "mesos-execute", *base, "--secret=wrong")
        assert done.returncode == 1 and "Submitted" not in done.stdout and "401" in done.stderr, done


def test_the_leader_is_found(helpers):
    if not JAR.exists():
        pytest.skip("Debian's package zookeeper is not installed")
    resolve = helpers / "mesos-resolve"
    assert run(resolve, "127.0.0.1:5050").stdout == "127.0.0.1:5050\n"
    with Ensemble(agents=0) as ensemble:
        leader = ensemble.leads()
        assert run(resolve, ensemble.url).stdout == f"127.0.0.1:{leader}\n"
        done = run(resolve, "--timeout=1secs", f"zk://{ensemble.servers}/elsewhere")
        assert done.returncode == 1 and "Failed to detect master" in done.stderr
