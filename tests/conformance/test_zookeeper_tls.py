"""Masters and agents that speak TLS to ZooKeeper, while an unmodified pymesos asks it without."""

import os
import subprocess

import pytest
from cluster import binary, eventually
from test_zookeeper import JAR, NETTY, TLS, Ensemble, follow_the_leader


@pytest.fixture(scope="module")
def ensemble():
    if missing := [str(jar) for jar in (JAR, *NETTY) if not jar.exists()]:
        pytest.skip(f"skipped: there is no {missing[0]}")
    with Ensemble(secure=True) as ensemble:
        eventually("two candidates", lambda: len(ensemble.candidates()) == 2)
        yield ensemble


def test_tasks_go_on_when_the_leader_dies(ensemble):
    follow_the_leader(ensemble)


def test_the_command_line_finds_the_leader(ensemble, tmp_path):
    def nodes(**env: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [binary("dcos"), "--master", ensemble.url, "node", "list"], capture_output=True, text=True, timeout=180,
            check=False, env={"PATH": os.environ["PATH"], "DCOS_DIR": str(tmp_path), **{
                f"LIBPROCESS_SSL_{name}_FILE": str(file) for name, file in env.items()}})

    eventually("the agent's return", lambda: "127.0.0.1" in nodes(
        CA=TLS / "ca.pem", CERT=TLS / "server.pem", KEY=TLS / "server.key").stdout)
    done = nodes()
    assert done.returncode == 1 and "who signs" in done.stderr, done
    assert "secret" not in done.stderr


def test_files_for_tls_need_it(tmp_path):
    done = subprocess.run(
        [binary("dcos-master"), "--zk=zk://127.0.0.1:1/mesos", "--quorum=1", f"--work_dir={tmp_path}", "--port=0", "--only=master",
         f"--zk_ca_file={TLS}/ca.pem"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "zks://" in done.stderr + done.stdout, done
