"""A cluster wholly on TLS: master, agent, Marathon, executors, command line, Python."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest
from cluster import PORTS, ROOT, Program, binary, eventually, free_port

# Made for `localhost` and `127.0.0.1`, signed by an authority of its own.
KEYS = ROOT / "dcos-core" / "wire" / "tests" / "tls"
TLS = {
    "LIBPROCESS_SSL_ENABLED": "true", "LIBPROCESS_SSL_CERT_FILE": str(KEYS / "server.pem"),
    "LIBPROCESS_SSL_KEY_FILE": str(KEYS / "server.key"), "LIBPROCESS_SSL_CA_FILE": str(KEYS / "ca.pem"),
}
STRICT = {**TLS, "LIBPROCESS_SSL_VERIFY_CERT": "true", "LIBPROCESS_SSL_REQUIRE_CERT": "true",
          "LIBPROCESS_SSL_VERIFY_IPADD": "true"}
EXECUTOR = Path(binary("dcos")).parent / "examples" / "custom_executor"


def context(certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(KEYS / "ca.pem"))
    if certificate:
        context.load_cert_chain(KEYS / "server.pem", KEYS / "server.key")
    return context


def ask(url: str, certificate: bool = True, method: str = "GET", body: object = None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60, context=context(certificate)) as answer:
        return json.loads(answer.read() or b"null")


class Encrypted:
    """A master with Marathon and an agent, each in an environment of its own."""

    def __init__(self, folder: Path, master: dict[str, str], agent: dict[str, str]) -> None:
        ports = {name: free_port() for name in ("port", "marathon_port", "metronome_port", "dns_port", "mesos_dns_port")}
        self.master_port, self.marathon_port, self.agent_port = ports["port"], ports["marathon_port"], free_port()
        # By its name: what answers there has to show a certificate for it.
        self.master = f"https://127.0.0.1:{self.master_port}"
        self.marathon = f"https://127.0.0.1:{self.marathon_port}"
        self.agent = f"https://127.0.0.1:{self.agent_port}"
        self.programs = [
            Program("dcos-master", {"ip": "127.0.0.1", "hostname": "127.0.0.1", "work_dir": folder / "master",
                                    "without": "metronome", **ports}, folder / "master.log", master),
            Program("dcos-agent", {
                "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": self.agent_port, "launcher": "posix",
                "master": f"127.0.0.1:{self.master_port}", "work_dir": folder / "agent",
                "runtime_dir": folder / "run", "isolation": "posix/cpu,posix/mem",
                "resources": f"cpus:8;mem:4096;disk:1000;{PORTS}"}, folder / "agent.log", agent),
        ]

    def __enter__(self):
        for program in self.programs:
            program.start()
        return self

    def __exit__(self, failed, *_):
        for program in reversed(self.programs):
            program.stop(signal.SIGUSR1 if program.name == "dcos-agent" else signal.SIGTERM)
            if failed:
                print(f"--- {program.log}", *program.log.read_text(errors="replace").splitlines()[-40:], sep="\n")

    def agents(self):
        return ask(f"{self.master}/slaves")["slaves"]


def dcos(folder: Path, *words: str, env: dict[str, str] = STRICT) -> str:
    done = subprocess.run([binary("dcos"), *words], capture_output=True, text=True, timeout=180, check=False, env={
        "PATH": os.environ["PATH"], "DCOS_DIR": str(folder / "home"), "HOME": str(folder), **env})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def cluster(folder):
    with Encrypted(folder, STRICT, STRICT) as cluster:
        eventually("the agent's registration", cluster.agents)
        eventually("Marathon's answer", lambda: ask(f"{cluster.marathon}/v2/apps"))
        yield cluster


def test_only_who_shows_a_certificate_is_heard(cluster):
    for url in (cluster.master, cluster.marathon, cluster.agent):
        path = "/v2/info" if url == cluster.marathon else "/health"
        with pytest.raises(OSError):
            ask(url + path, certificate=False)
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(url.replace("https", "http") + path, timeout=5).read()
    assert ask(f"{cluster.marathon}/v2/info")["http_config"]["https_port"] == cluster.marathon_port


def test_an_app_runs_and_is_seen(cluster, folder):
    app = {"id": "/hello", "cmd": "echo hello; sleep 1000", "cpus": 0.1, "mem": 32}
    ask(f"{cluster.marathon}/v2/apps", method="POST", body=app)

    def tasks():
        return [task for task in ask(f"{cluster.master}/tasks")["tasks"] if task["state"] == "TASK_RUNNING"]

    (task,) = eventually("a running task", tasks)
    (framework,) = ask(f"{cluster.master}/frameworks")["frameworks"]
    assert framework["webui_url"] == cluster.marathon
    there = ["--master", cluster.master, "--marathon", cluster.marathon]
    (listed,) = json.loads(dcos(folder, "marathon", "app", "list", "--json", *there))
    assert listed["id"] == "/hello"
    seen = eventually("its output", lambda: dcos(folder, "task", "log", task["id"], *there))
    assert "hello" in seen
    assert "127.0.0.1" in dcos(folder, "node", "list", *there)


def test_python_sees_it_too(cluster, folder):
    pytest.importorskip("dcos", reason="skipped: the Python package is not built")
    import sys
    program = f"""
import dcos
cluster = dcos.connect("{cluster.master}", marathon="{cluster.marathon}")
app = cluster.deploy({{"id": "/python", "cmd": "echo from python; sleep 1000", "cpus": 0.1, "mem": 32}})
app.wait(timeout=120)
task = next(task for task in cluster.tasks() if task.name == "python")
while "from python" not in task.log():
    pass
print(len(cluster.agents()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180,
                          env={**os.environ, **STRICT}, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_schedulers_and_their_executors_speak_it(cluster):
    if not EXECUTOR.exists():
        pytest.skip("skipped: examples are not built")
    done = subprocess.run([EXECUTOR, f"127.0.0.1:{cluster.master_port}"], capture_output=True, text=True,
                          timeout=180, env={**os.environ, **STRICT}, check=False)
    assert done.returncode == 0, done.stderr
    offers = ask(f"{cluster.master}/slaves")["slaves"]
    assert offers[0]["port"] == cluster.agent_port


@pytest.mark.parametrize(("name", "agent"), [
    ("no TLS", {}),
    # It trusts nobody who is there.
    ("another authority", {**STRICT, "LIBPROCESS_SSL_CA_FILE": str(KEYS / "server.pem")}),
])
def test_an_agent_without_does_not_get_in(tmp_path, name, agent):
    with Encrypted(tmp_path, STRICT, agent) as cluster:
        eventually("the master's start", lambda: ask(f"{cluster.master}/state")["id"])
        with pytest.raises(AssertionError, match="did not happen"):
            eventually("its registration", cluster.agents, 4)


def test_with_downgrade_both_are_served(tmp_path):
    """As while a cluster is moved to TLS, node by node."""
    downgrade = {**TLS, "LIBPROCESS_SSL_SUPPORT_DOWNGRADE": "true"}
    with Encrypted(tmp_path, downgrade, {}) as cluster:
        eventually("the registration of an agent without TLS", cluster.agents)
        plain = cluster.master.replace("https", "http")
        with urllib.request.urlopen(f"{plain}/slaves", timeout=60) as answer:
            assert len(json.loads(answer.read())["slaves"]) == 1
        assert len(ask(f"{cluster.master}/slaves", certificate=False)["slaves"]) == 1
        app = {"id": "/hello", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32}
        eventually("Marathon's answer", lambda: ask(f"{cluster.marathon}/v2/apps", certificate=False))
        ask(f"{cluster.marathon}/v2/apps", certificate=False, method="POST", body=app)
        eventually("a running task", lambda: any(
            task["state"] == "TASK_RUNNING" for task in ask(f"{cluster.master}/tasks")["tasks"]))


def test_one_command_starts_it(tmp_path):
    local = ["--dir", str(tmp_path / "local")]
    try:
        told = json.loads(dcos(tmp_path, "local", "up", "--free-ports", "--sample", "--json", *local))
        assert told["master"].startswith("https://") and told["marathon"].startswith("https://")
        with urllib.request.urlopen(told["sample"], timeout=60) as answer:
            assert b"Hello" in answer.read()
        there = ["--master", told["master"], "--marathon", told["marathon"]]
        (task,) = json.loads(dcos(tmp_path, "task", "list", "--json", *there))
        assert task["state"] == "TASK_RUNNING"
        eventually("its log", lambda: "GET /" in dcos(tmp_path, "task", "log", task["id"], "stderr", *there))
        with pytest.raises(OSError):
            ask(f"{told['master']}/health", certificate=False)
    finally:
        dcos(tmp_path, "local", "down", *local)


def test_those_that_stand_by_speak_it_too(tmp_path):
    """Two masters on ZooKeeper: whichever Marathon and Metronome is asked, nothing is said in clear."""
    pytest.importorskip("kazoo", reason="skipped: kazoo is not installed")
    from test_zookeeper import JAR, Ensemble
    if not JAR.exists():
        pytest.skip("Debian's package zookeeper is not installed")
    with Ensemble(agents=0, components="master,marathon,metronome", more=STRICT) as ensemble:
        for ports, path in ((ensemble.marathons, "/v2/apps"), (ensemble.metronomes, "/v1/jobs")):
            for port in ports.values():
                answers = lambda port=port, path=path: ask(f"https://127.0.0.1:{port}{path}") is not None  # noqa: E731
                eventually("an answer, own or the leader's", answers)
                with pytest.raises((OSError, http.client.HTTPException)):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read()
                with pytest.raises(OSError):
                    ask(f"https://127.0.0.1:{port}{path}", certificate=False)
        leaders = [ask(f"https://127.0.0.1:{port}/v2/leader")["leader"] for port in ensemble.marathons.values()]
        assert len(leaders) == 2 and len(set(leaders)) == 1, leaders
        standby = next(port for port in ensemble.marathons.values() if not leaders[0].endswith(f":{port}"))
        stream = http.client.HTTPSConnection("127.0.0.1", standby, timeout=60, context=context())
        stream.request("GET", "/v2/events")
        answer = stream.getresponse()
        assert (answer.status, answer.getheader("Location")) == (302, f"https://{leaders[0]}/v2/events")


def test_both_versions_are_spoken(cluster):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        chosen = context()
        chosen.minimum_version = chosen.maximum_version = version
        with socket.create_connection(("127.0.0.1", cluster.master_port), 10) as bare, \
                chosen.wrap_socket(bare, server_hostname="127.0.0.1") as spoken:
            assert spoken.version() == version.name.replace("_", ".")
