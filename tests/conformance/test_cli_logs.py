"""`dcos task log|ls`, `service log`, `marathon ping|deployment watch`: the forms of dcos-core-cli 2.2."""

import json
import subprocess
import time

import pytest
from cluster import binary, eventually
from test_local import dcos


@pytest.fixture
def folder(tmp_path):
    # Deeper than the address of a socket may be long.
    tmp_path = tmp_path / ("deep" * 30)
    tmp_path.mkdir()
    dcos("local", "up", "--free-ports", folder=tmp_path)
    yield tmp_path
    subprocess.run([binary("dcos"), "local", "down", "--dir", str(tmp_path / "home" / "local")], check=False)


def test_logs_of_several_tasks_and_of_services(folder):
    def run(*words: str) -> str:
        return dcos(*words, folder=folder)

    def add(name: str, cmd: str, **fields: object) -> None:
        file = folder / f"{name}.json"
        app = {"id": f"/{name}", "cmd": cmd, "cpus": 0.05, "mem": 32, "disk": 0, **fields}
        file.write_text(json.dumps(app))
        run("marathon", "app", "add", str(file))

    lines = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; sleep 1000"
    add("many", lines, instances=2)
    add("agent", "echo at work; sleep 1000", labels={"DCOS_PACKAGE_FRAMEWORK_NAME": "worker"})
    several = [task["id"] for task in json.loads(run("task", "list", "many", "--json"))]
    assert len(several) == 2

    def printed() -> str:
        shown = run("task", "log", several[0])
        return shown if "line 12" in shown else ""

    assert eventually("what it says", printed) == "".join(f"line {i}\n" for i in range(3, 13))
    assert run("task", "log", several[0], "--lines", "all", "-o", "json").startswith("line 1\n")
    assert run("task", "exec", several[0], "echo", "inside") == "inside\n"
    last = sorted([f"===> {id} <===" for id in several] + ["line 12"] * 2)
    eventually("what both say", lambda: sorted(run("task", "log", "many", "--lines", "1", "--output=cat").splitlines()) == last)
    listed = run("task", "ls", "--all", "many").splitlines()
    assert [line for line in listed if line.startswith("===>")] == [f"===> {id} <===" for id in several]
    assert listed.count("stdout") == 2
    heading, *files = run("task", "ls", "--long", several[0]).splitlines()
    assert heading.split() == ["MODE", "LINKS", "USER", "GROUP", "SIZE", "DATE", "NAME"]
    assert any(time.strftime("%Y-") in line and line.endswith("stdout") for line in files)

    # What is called so comes before what has it in its id.
    add("any", "echo just any; sleep 1000")
    eventually("what it says", lambda: run("task", "log", "any") == "just any\n")
    run("marathon", "app", "remove", "any")

    eventually("what it says", lambda: run("service", "log", "worker") == "at work\n")
    assert run("service", "log", "worker", "stderr", "--lines", "0") == ""
    refused = subprocess.run(
        [binary("dcos"), "service", "log", "nobody"], capture_output=True, text=True, check=False,
        env={"DCOS_DIR": str(folder / "home"), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    assert refused.returncode != 0 and "DCOS_PACKAGE_FRAMEWORK_NAME=nobody" in refused.stderr
    assert "Marathon answers" in run("marathon", "ping", "--once")

    # Of tasks that have ended only those are looked at.
    run("marathon", "app", "remove", "agent")
    (ended,) = eventually("its end", lambda: json.loads(run("task", "list", "agent", "--completed", "--json")))
    assert run("task", "log", "agent", "--completed") == "at work\n"
    assert run("task", "log", ended["id"], "--all") == "at work\n"


def test_watching_a_deployment_may_end_before_it_does(folder):
    file = folder / "large.json"
    file.write_text(json.dumps({"id": "/large", "cmd": "sleep 1000", "cpus": 1000, "mem": 32}))
    dcos("marathon", "app", "add", "--no-wait", str(file), folder=folder)
    (deployment,) = json.loads(dcos("marathon", "deployment", "list", "--json", folder=folder))
    watched = ["marathon", "deployment", "watch", deployment["id"]]
    assert "It goes on" in dcos(*watched, "--max-count", "2", "--interval", "1", folder=folder)
    dcos("marathon", "deployment", "stop", deployment["id"], folder=folder)
    assert dcos(*watched, "--max-count", "2", folder=folder) == ""
