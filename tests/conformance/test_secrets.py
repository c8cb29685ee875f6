"""Secrets that apps and jobs name and agents look up among their files."""

import hashlib
import json
import urllib.error
import urllib.request

import dcos
import docker_engine
import pytest
from cluster import Cluster, eventually
from docker_tasks import App, flags

SECRET = "open sesame 71"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "db").mkdir()
    (folder / "db" / "password").write_text(SECRET)
    agent = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "secrets_dir": folder}
    master = {"without": "dns,router", "marathon_enable_features": "secrets"}
    with Cluster(agent_flags=agent, master_flags=master) as cluster:
        cluster.secret = folder / "db" / "password"
        cluster.known = dcos.connect(f"http://{cluster.master}", marathon=cluster.marathon, metronome=cluster.metronome)
        eventually("Marathon and Metronome", lambda: cluster.known.apps() == [] and cluster.known.jobs() == [])
        yield cluster


def app(app_id, source, **more):
    return {"id": app_id, "cmd": "echo \"$PASSWORD\" > out; sleep 1000", "cpus": 0.1, "mem": 32,
            "env": {"PASSWORD": {"secret": "pw"}}, "secrets": {"pw": {"source": source}}, **more}


def test_an_app_has_it_in_its_environment_and_the_next_one_a_new_one(cluster):
    def seen():
        [task] = [task for task in cluster.known.tasks() if task.id.startswith("lookup.")]
        return task.read("out").decode().strip()

    lookup = cluster.known.deploy(app("/lookup", "db/password")).wait(timeout=180)
    assert eventually("what it sees", seen) == SECRET
    cluster.secret.write_text("another")
    lookup.restart().wait(timeout=180)
    eventually("what the next one sees", lambda: seen() == "another")
    cluster.secret.write_text(SECRET)


def test_a_job_has_it(cluster):
    # What it should be is not in the command, which everybody sees.
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    run = {"cmd": f'printf %s "$PASSWORD" | sha256sum | grep -q {digest}', "cpus": 0.1, "mem": 32, "disk": 0,
           "env": {"PASSWORD": {"secret": "pw"}}, "secrets": {"pw": {"source": "/db/password"}}}
    ask(cluster.metronome + "/v1/jobs", {"id": "lookup", "run": run})
    ask(cluster.metronome + "/v1/jobs/lookup/runs", {})
    summary = cluster.metronome + "/v1/jobs/lookup?embed=historySummary"
    eventually("its end", lambda: ask(summary)["historySummary"]["successCount"] == 1)


def test_what_is_not_there_is_told(cluster):
    ask(cluster.marathon + "/v2/apps", app("/without", "db/none", backoffSeconds=3600))
    shown = cluster.marathon + "/v2/apps/without"
    failure = eventually("its failure", lambda: ask(shown)["app"].get("lastTaskFailure"))
    assert failure["state"] == "TASK_FAILED"
    assert "PASSWORD: secret 'db/none' is not among those of this node" in failure["message"], failure
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(cluster.marathon + "/v2/apps", {**app("/undeclared", "x"), "secrets": {}})
    assert refused.value.code == 422 and "references an undefined secret" in refused.value.read().decode()


def test_it_is_shown_to_nobody(cluster):
    agent = f"http://127.0.0.1:{cluster.agent_port}"
    shown = [json.dumps(ask(url)) for url in (f"http://{cluster.master}/state", f"{agent}/state", cluster.marathon + "/v2/apps")]
    shown += [program.log.read_text() for program in (cluster.master_program, cluster.agent_program)]
    for text in shown:
        assert SECRET not in text


@pytest.mark.skipif(docker_engine.why_not() is not None, reason=str(docker_engine.why_not()))
def test_a_container_of_docker_has_it_or_does_not_start(engine, tmp_path):
    (tmp_path / "pw").write_text(SECRET)
    master = {"marathon_enable_features": "secrets", "without": "metronome,dns,router"}
    with Cluster(agent_flags=flags(engine, secrets_dir=tmp_path), master_flags=master) as cluster:
        more = {"env": {"PASSWORD": {"secret": "it"}}, "secrets": {"it": {"source": "pw"}}}
        with App(cluster, "with", 'echo "$PASSWORD"; exec sleep 600', **more) as running:
            eventually("its output", lambda: running.log() == SECRET.encode() + b"\n")
        more["secrets"]["it"]["source"] = "none"
        with App(cluster, "without", "sleep 600", backoffSeconds=3600, **more) as refused:
            failure = eventually("its failure", lambda: ask(refused.url)["app"].get("lastTaskFailure"))
            assert "PASSWORD: secret 'none' is not among those of this node" in failure["message"], failure


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())
