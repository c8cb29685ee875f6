"""Marathon and Metronome that ask for a password: who shows it, who does not, and what stands before them."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode

import dcos
import marathon
import pytest
from cluster import Cluster, binary, eventually, free_port

USER, PASSWORD = "ops", "se:cret-of-services"
SHOWN = {"Authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
JOB = {"id": "guarded", "run": {"cmd": "true", "cpus": 0.1, "mem": 32, "disk": 0}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    file = tmp_path_factory.mktemp("passwords") / "metronome"
    file.write_text(f"{USER}:{PASSWORD}\n")
    door = free_port()
    flags = {"router_port": door, "without": "dns", "metronome_http_credentials": f"file://{file}"}
    # As units of the original give it.
    os.environ["MARATHON_HTTP_CREDENTIALS"] = f"{USER}:{PASSWORD}"
    try:
        with Cluster(master_flags=flags) as cluster:
            del os.environ["MARATHON_HTTP_CREDENTIALS"]
            cluster.door = f"http://127.0.0.1:{door}"
            for direct, service, path in ((cluster.marathon, "marathon", "/v2/apps"), (cluster.metronome, "metronome", "/v1/jobs")):
                for url in (direct + path, f"{cluster.door}/service/{service}{path}"):
                    eventually(url, lambda url=url: ask(url, SHOWN)[0] == 200)
            yield cluster
    finally:
        os.environ.pop("MARATHON_HTTP_CREDENTIALS", None)


def ask(url, headers=None, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize("path", ["/ping", "/v2/apps", "/v1/jobs", "/metrics"])
def test_nobody_is_answered_without_it(cluster, path):
    doors = [f"{cluster.door}/service/marathon", f"{cluster.door}/service/metronome"]
    for base in (cluster.marathon, cluster.metronome, *doors):
        for headers in ({}, {"Authorization": "Basic b3BzOm9wcw=="}):
            status, told, body = ask(base + path, headers)
            assert (status, told["WWW-Authenticate"]) == (401, 'Basic realm="Mesosphere"'), base
            assert json.loads(body) == {"message": "Invalid username or password."}


def test_clients_that_know_it(cluster, tmp_path):
    client = marathon.MarathonClient(cluster.marathon, username=USER, password=PASSWORD)
    client.create_app("/guarded", marathon.MarathonApp(cmd="sleep 1000", cpus=0.1, mem=32))
    eventually("the task", lambda: client.get_app("/guarded").tasks_running == 1)
    with pytest.raises(marathon.exceptions.MarathonHttpError):
        marathon.MarathonClient(cluster.marathon).list_apps()
    assert ask(f"{cluster.door}/service/metronome/v1/jobs", SHOWN, JOB)[0] == 201
    credential = tmp_path / "credential"
    credential.write_text(f"{USER} {PASSWORD}\n")

    def ours(*words, **more):
        env = os.environ | {"DCOS_DIR": str(tmp_path), "DCOS_MARATHON_URL": cluster.marathon,
                            "DCOS_METRONOME_URL": cluster.metronome, **more}
        return subprocess.run([binary("dcos"), *words], env=env, text=True, capture_output=True, timeout=180, check=False)

    for words, found in ((("marathon", "app", "list"), "/guarded"), (("job", "list"), "guarded")):
        done = ours(*words, DCOS_CREDENTIAL=str(credential))
        assert done.returncode == 0 and found in done.stdout, done.stderr
        done = ours(*words)
        assert done.returncode != 0 and "Invalid username or password. (401" in done.stderr


def test_python_shows_what_it_shows_the_master(cluster):
    with_it = f"http://{USER}:{PASSWORD}@"
    urls = {name: url.replace("http://", with_it) for name, url in
            (("marathon", cluster.marathon), ("metronome", cluster.metronome))}
    known = dcos.connect(f"http://{cluster.master}", **urls)
    app = known.deploy({"id": "/of-python", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32}).wait(timeout=180)
    assert app.id == "/of-python"
    # Where only the master's URL is said, the others are beside it and are shown the same.
    assert dcos.connect(f"{with_it}[::1]:5050").marathon == f"{with_it}[::1]:8080"


def test_the_router_learns_of_services(cluster):
    """It follows Marathon, and shows the password by itself; clients of the service need not."""
    script = "import http.server as h, os; h.HTTPServer(('127.0.0.1', int(os.environ['PORT0'])), h.SimpleHTTPRequestHandler).serve_forever()"
    labels = {"DCOS_SERVICE_NAME": "files", "DCOS_SERVICE_SCHEME": "http", "DCOS_SERVICE_PORT_INDEX": "0"}
    app = {"id": "/files", "cmd": f'exec python3 -c "{script}"', "cpus": 0.1, "mem": 64, "labels": labels,
           "portDefinitions": [{"port": 0}]}
    assert ask(f"{cluster.marathon}/v2/apps", SHOWN, app)[0] == 201
    eventually("the service", lambda: ask(f"{cluster.door}/service/files/")[0] == 200)


def test_it_is_shown_to_nobody(cluster):
    flags = ask(f"http://{cluster.master}/flags")[2].decode()
    assert "metronome_http_credentials" in flags
    shown = [flags, cluster.master_program.log.read_text(), ask(f"{cluster.marathon}/v2/info", SHOWN)[2].decode(),
             ask(f"{cluster.marathon}/config", SHOWN)[2].decode()]
    for text in shown:
        assert PASSWORD not in text and SHOWN["Authorization"].split()[1] not in text
