"""Readers, operators and schedulers that show signed tokens (JWT), to masters and agents, in both forms clients know.

Tokens of the shared key are made here; those of public keys by `cryptography`, which knows nothing of ours.
"""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from cluster import Cluster, binary, eventually
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from pymesos import MesosSchedulerDriver
from test_pymesos import Tasks

KEY = b"a-key-of-the-whole-cluster"
SHA256 = hashes.SHA256()
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ACLS = {"permissive": False, **{name: [{"principals": {"values": ["ops"]}, what: {"type": "ANY"}}] for name, what in (
    ("get_quotas", "roles"), ("update_quotas", "roles"), ("view_roles", "roles"), ("view_flags", "flags"),
    ("update_weights", "roles"), ("run_tasks", "users"), ("register_frameworks", "roles"))}}
# Whoever has a name may read what there is.
ACLS |= {name: [{"principals": {"type": "ANY"}, what: {"type": "ANY"}}] for name, what in (
    ("view_frameworks", "users"), ("view_tasks", "users"), ("view_executors", "users"), ("register_agents", "agents"))}


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, length: int | None = None) -> str:
    return encoded(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def by_ec(message: bytes) -> bytes:
    r, s = decode_dss_signature(EC.sign(message, ec.ECDSA(SHA256)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


SIGN = {
    "HS256": lambda message: hmac.digest(KEY, message, hashlib.sha256),
    "RS256": lambda message: RSA.sign(message, padding.PKCS1v15(), SHA256),
    "ES256": by_ec,
}


def token(algorithm: str = "HS256", **claims) -> str:
    head = {"alg": algorithm, "typ": "JWT"}
    message = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    return f"{message}.{encoded(SIGN[algorithm](message.encode()))}"


def key_set() -> dict:
    public, point = RSA.public_key().public_numbers(), EC.public_key().public_numbers()
    return {"keys": [
        {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "a", "n": number(public.n), "e": number(public.e)},
        {"kty": "EC", "crv": "P-256", "kid": "b", "x": number(point.x, 32), "y": number(point.y, 32)},
        {"kty": "oct", "k": "bm90aGluZw"}]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    files = {"key": KEY, "keys": json.dumps(key_set()).encode(), "agent": b"agent agent-secret",
             "known": json.dumps({"credentials": [{"principal": name, "secret": f"{name}-secret"}
                                                  for name in ("ops", "agent")]}).encode()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    flags = {"authenticate_http_readonly": "true", "authenticate_http_readwrite": "true", "jwt_secret_key": folder / "key",
             "jwt_public_keys": folder / "keys", "http_authenticators": "basic,jwt", "acls": json.dumps(ACLS)}
    master = {"only": "master", "credentials": folder / "known", "authenticate_http_frameworks": "true",
              "http_framework_authenticators": "basic,jwt", **flags}
    agent = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "http_credentials": folder / "known",
             "credential": folder / "agent", "authenticate_http_executors": "true", **flags}
    cluster = Cluster(agent, master)
    cluster.agents = lambda: json.loads(ask(f"http://{cluster.master}/slaves", token(uid="ops"))[1])["slaves"]
    with cluster:
        yield cluster


def ask(url: str, shown: str | None, body: dict | None = None, form: str = "Bearer {}", method: str | None = None):
    """The status, body and challenge of an answer."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if shown is not None:
        headers["Authorization"] = form.format(shown)
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), None
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers.get("WWW-Authenticate")


def servers(cluster) -> list[str]:
    return [f"http://{cluster.master}", f"http://127.0.0.1:{cluster.agent_port}/slave(1)"]


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "token={}"])
@pytest.mark.parametrize("algorithm", SIGN)
@pytest.mark.parametrize("claim", ["uid", "sub"])
def test_both_take_good_tokens(cluster, form, algorithm, claim):
    shown = token(algorithm, **{claim: "ops"}, exp=time.time() + 60)
    for server in servers(cluster):
        assert ask(f"{server}/state", shown, form=form)[0] == 200
        assert ask(f"{server}/api/v1", shown, {"type": "GET_VERSION"}, form=form)[0] == 200


def test_what_is_not_good_is_challenged_by_every_scheme(cluster):
    good = token(uid="ops")
    head, payload, signature = good.split(".")
    forged = encoded(json.dumps({"uid": "ops", "exp": time.time() + 60}).encode())
    bad = {
        "nothing": (None, "Bearer {}"), "nonsense": ("abc", "Bearer {}"), "empty": ("", "token={}"),
        "another scheme": (good, "Digest {}"), "expired": (token(uid="ops", exp=time.time() - 1), "Bearer {}"),
        "early": (token(uid="ops", nbf=time.time() + 60), "Bearer {}"),
        "for others": (token(uid="ops", aud="others"), "Bearer {}"),
        "forged": (f"{head}.{forged}.{signature}", "Bearer {}"),
        "unsigned": (f"{encoded(b'{}')}.{payload}.", "Bearer {}"),
        "none": (encoded(json.dumps({"alg": "none"}).encode()) + f".{payload}.", "token={}"),
    }
    for server in servers(cluster):
        for name, (shown, form) in bad.items():
            for path, call in (("/state", None), ("/api/v1", {"type": "GET_VERSION"})):
                status, _, challenge = ask(server + path, shown, call, form)
                assert status == 401, (name, server, path)
                assert challenge.startswith('Basic realm="mesos-'), challenge
                assert ',Bearer realm="mesos-' in challenge, challenge
    # One that names nobody could be an executor's, which has nothing to ask a master.
    executor = token(fid="f", eid="e", cid="c")
    assert ask(f"http://{cluster.master}/state", executor)[0] == 401
    assert ask(f"{servers(cluster)[1]}/state", executor)[0] == 200


def test_rules_speak_of_the_name(cluster):
    quota = {"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [
        {"role": "r", "limits": {"cpus": {"value": 1}}}]}}
    url = f"http://{cluster.master}/api/v1"
    assert ask(url, token(uid="guest"), quota)[0] == 403
    assert ask(url, token("ES256", sub="ops"), quota)[0] == 200
    # Basic credentials go on counting.
    basic = base64.b64encode(b"ops:ops-secret").decode()
    assert ask(url, basic, quota, "Basic {}")[0] == 200
    weights = [{"role": "r", "weight": 2.0}]
    for name, status in (("guest", 403), ("ops", 200)):
        assert ask(f"http://{cluster.master}/weights", token(uid=name), weights, "token={}", "PUT")[0] == status


def test_a_scheduler_is_who_its_token_says(cluster):
    url = f"http://{cluster.master}/api/v1/scheduler"

    def subscribe(shown, principal):
        info = {"user": "root", "name": "tokens", "roles": ["r"], "principal": principal,
                "capabilities": [{"type": "MULTI_ROLE"}]}
        request = urllib.request.Request(
            url, json.dumps({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}).encode(),
            {"Content-Type": "application/json", "Accept": "application/json", "Authorization": f"Bearer {shown}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read(int(answer.readline())))["type"]
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    assert subscribe(token(uid="ops"), "ops") == (200, "SUBSCRIBED")
    status, told = subscribe(token(uid="guest"), "ops")
    assert status == 400 and "'guest' does not match" in told, told
    assert subscribe(token(uid="ops", exp=1), "ops")[0] == 401


def test_an_unchanged_client_runs_tasks_with_a_token(cluster, monkeypatch):
    """pymesos, which sends `Authorization: Basic`, given another header: as schedulers of DC/OS do it."""
    scheduler = Tasks(2, "true")
    driver = MesosSchedulerDriver(scheduler, {"user": "root", "name": "tokens", "principal": "ops"}, cluster.master,
                                  principal="ops", secret="unused")
    shown = f"token={token('RS256', uid='ops')}"
    assert driver._basic_credential.startswith("Basic ")
    driver._basic_credential = shown
    driver.start()
    try:
        scheduler.done.wait(180)
    finally:
        driver.stop()
        driver.join()
    assert [end[0]["state"] for end in scheduler.terminal.values()] == ["TASK_FINISHED"] * 2, scheduler.errors


def test_the_command_line_shows_its_token(cluster, tmp_path):
    good, home = token(uid="ops"), tmp_path / "home"

    def dcos(*words, **env):
        return subprocess.run([binary("dcos"), *words], capture_output=True, text=True, timeout=180, check=False,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DCOS_DIR": str(home), **env})

    assert "401" in dcos("cluster", "setup", cluster.master).stderr
    done = dcos("cluster", "setup", cluster.master, DCOS_ACS_TOKEN=good)
    assert done.returncode == 0, done.stderr
    assert "401" in dcos("node", "list").stderr, "what the environment says is not kept"
    assert dcos("config", "set", "core.dcos_acs_token", good).returncode == 0
    assert "127.0.0.1" in dcos("node", "list").stdout
    assert dcos("config", "show", "core.dcos_acs_token").stdout.strip() == good
    everything = dcos("config", "show").stdout
    assert "core.dcos_acs_token" in everything and good not in everything
    (file,) = (home / "clusters").glob("*/dcos.toml")
    assert file.stat().st_mode & 0o777 == 0o600
    # The environment comes first, and a cluster that is named instead of the attached one is not shown its token.
    assert "401" in dcos("node", "list", DCOS_ACS_TOKEN=token(uid="ops", exp=1)).stderr
    assert "401" in dcos("--master", cluster.master, "node", "list").stderr
    assert dcos("config", "unset", "core.dcos_acs_token").returncode == 0
    assert "401" in dcos("node", "list").stderr
    for words, told in ((("set", "core.token", "x"), "core.dcos_acs_token"), (("unset", "cluster.name"), "can't be without"),
                        (("show", "marathon.url"), "is not set")):
        done = dcos("config", *words)
        assert done.returncode == 1 and told in done.stderr, done


def test_no_log_shows_a_token(cluster):
    shown = token("ES256", uid="ops")
    ask(f"http://{cluster.master}/state", shown, form="token={}")
    ask(f"http://{cluster.master}/state", shown + "x")
    ask(f"{servers(cluster)[1]}/state", shown + "x")
    signature = shown.rsplit(".", 1)[1]
    for program in (cluster.master_program, cluster.agent_program):
        log = eventually("a log", program.log.read_text)
        assert signature not in log and KEY.decode() not in log


@pytest.mark.parametrize(("flags", "told"), [
    (["--http_authenticators=jwt"], "No secret key provided for the default 'jwt' HTTP authenticator"),
    (["--http_authenticators=x"], "there are basic and jwt"),
    (["--jwt_audience=x"], "jwt_audience"),
    (["--jwt_public_keys=/dev/null"], "understanding a key set"),
])
def test_a_master_says_what_is_missing(tmp_path, flags, told):
    done = subprocess.run([
        binary("dcos-master"), f"--work_dir={tmp_path}", "--ip=127.0.0.1", "--port=0", "--only=master",
        "--authenticate_http_readonly=true", *flags], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and told in done.stderr + done.stdout, done
