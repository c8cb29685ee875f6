"""`dcos local`: a cluster with one command, and a host left as it was found."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import binary, eventually
from dcos import connect


def run(*words: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary("dcos"), *words], capture_output=True, text=True, timeout=180, check=False,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "DCOS_DIR": str(folder / "home"), "HOME": str(folder), **more},
    )


def dcos(*words: str, folder: Path, **more: str) -> str:
    done = run(*words, folder=folder, **more)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def refused(*words: str, folder: Path) -> str:
    done = run(*words, folder=folder)
    assert done.returncode != 0, done.stdout
    return done.stderr


def command(*words: str) -> set[str]:
    """The lines a program prints, or nothing where it is absent or may not."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return set()
    return set(done.stdout.splitlines())


def host(folder: Path) -> dict[str, set[str]]:
    """What a cluster could leave behind."""
    mine = str(folder)
    processes = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                directory = os.readlink(entry / "cwd")
            except OSError:
                continue
            # Programs and launchers name the folder, tasks work in it.
            if int(entry.name) != os.getpid() and (mine in line or mine in directory):
                processes.add(line)
    return {
        "processes": processes,
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "links": {line.split(": ")[1] for line in command("ip", "-o", "link")},
        "network namespaces": command("ip", "netns"),
        # What goes away meanwhile is passed over, unlike by `glob`.
        "cgroups": {path for path, _, _ in os.walk("/sys/fs/cgroup") if Path(path).name.startswith("dcos-local")},
        "nftables": command("nft", "list", "tables"),
        "files": {str(path) for path in folder.rglob("*") if "home" not in path.parts},
    }


def nothing_is_left(folder: Path, before: dict[str, set[str]]) -> None:
    """Of a cluster that was ended; the kernel may take a moment over what it was told to end."""
    def left() -> dict[str, set[str]]:
        return {kind: more for kind, things in host(folder).items() if (more := things - before[kind])}

    eventually(f"the end of {left()}", lambda: not left())


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    subprocess.run([binary("dcos"), "local", "down", "--dir", str(tmp_path / "local")], check=False)


def test_up_and_down_leave_the_host_as_it_was(folder):
    before = host(folder)
    local = ["--dir", str(folder / "local"), "--json"]
    start = time.monotonic()
    told = json.loads(dcos("local", "up", "--free-ports", "--sample", *local, folder=folder))
    print(f"up in {time.monotonic() - start:.1f} s; told: {told}")
    with urllib.request.urlopen(told["sample"], timeout=60) as answer:
        assert b"Hello" in answer.read()

    there = ["--master", told["master"], "--marathon", told["marathon"]]
    (app,) = json.loads(dcos("marathon", "app", "list", "--json", *there, folder=folder))
    assert app["id"] == "/hello" and app["tasksRunning"] == 1
    (task,) = json.loads(dcos("task", "list", "--json", *there, folder=folder))
    assert task["state"] == "TASK_RUNNING"
    eventually("its log", lambda: "GET /" in dcos("task", "log", task["id"], "stderr", *there, folder=folder))
    assert "stdout" in dcos("task", "ls", task["id"], *there, folder=folder)
    assert "active" in dcos("node", "list", *there, folder=folder)
    assert "marathon" in dcos("service", "list", *there, folder=folder)
    dcos("marathon", "app", "update", "/hello", "instances=2", *there, folder=folder)
    assert len(json.loads(dcos("task", "list", "--json", *there, folder=folder))) == 2
    # What is not there is not made by a slip, and what runs is not scaled by a start.
    assert "2 instances" in refused("marathon", "app", "start", "/hello", *there, folder=folder)
    for command in (["app", "update", "/helo", "instances=2"], ["group", "update", "/helo", "scaleBy=2"],
                    ["group", "scale", "/helo", "2"], ["app", "start", "/helo"]):
        assert "/helo" in refused("marathon", *command, *there, folder=folder)
    assert len(json.loads(dcos("task", "list", "--json", *there, folder=folder))) == 2
    dcos("marathon", "app", "stop", "/hello", *there, folder=folder)
    assert "stopped already" in refused("marathon", "app", "stop", "/hello", *there, folder=folder)
    with open("/dev/full", "w") as full:
        lost = subprocess.run([binary("dcos"), "task", "list", *there], stdout=full, stderr=subprocess.PIPE, text=True)
    assert lost.returncode == 1 and "standard output" in lost.stderr
    status = json.loads(dcos("local", "status", *local, folder=folder))
    assert status["agents"] == 1 and all(process["alive"] for process in status["processes"])

    dcos("local", "down", *local, folder=folder)
    nothing_is_left(folder, before)


def test_down_cleans_up_after_a_crash(folder):
    before = host(folder)
    local = ["--dir", str(folder / "local"), "--json"]
    dcos("local", "up", "--free-ports", "--sample", *local, folder=folder)
    for process in json.loads(dcos("local", "status", *local, folder=folder))["processes"]:
        subprocess.run(["kill", "-9", str(process["pid"])], check=True)
    dcos("local", "down", *local, folder=folder)
    nothing_is_left(folder, before)


def test_a_link_is_the_folder_it_leads_to(folder):
    (folder / "link").symlink_to("local")
    before = host(folder)
    local = ["--dir", str(folder / "link"), "--json"]
    # The second time the link leads nowhere: `down` removed the folder.
    for _ in range(2):
        dcos("local", "up", "--free-ports", *local, folder=folder)
        for process in json.loads(dcos("local", "status", *local, folder=folder))["processes"]:
            subprocess.run(["kill", "-9", str(process["pid"])], check=True)
        dcos("local", "down", *local, folder=folder)
        nothing_is_left(folder, before)


def test_names_are_asked_for_at_the_port_of_what_came_up(folder):
    try:
        dcos("local", "up", "--free-ports", folder=folder)
        (leader,) = json.loads(dcos("--json", "node", "dns", "leader.mesos", folder=folder))
        assert leader == {"host": "leader.mesos.", "ip": "127.0.0.1"}
    finally:
        dcos("local", "down", folder=folder)


def test_services_ask_for_the_passwords_of_the_shell(folder):
    before = host(folder)
    asked = {"marathon": "s@cret: of/apps%20", "metronome": "secret:of-jobs"}
    file = folder / "home" / "metronome"
    file.parent.mkdir()
    file.write_text(f"ops:{asked['metronome']}\n")
    env = {"MARATHON_HTTP_CREDENTIALS": f"ops:{asked['marathon']}", "DCOS_METRONOME_HTTP_CREDENTIALS": f"file://{file}"}
    try:
        seen = [dcos("local", "up", "--free-ports", "--sample", folder=folder, **env)]
        assert seen[0].count("http://ops:********@127.0.0.1:") == 3, seen
        assert (folder / "home" / "local" / "local.json").stat().st_mode & 0o777 == 0o600
        # Other shells need to know nothing of it, nor does a token take its place.
        properties = folder / "home" / "clusters" / "local" / "dcos.toml"
        with properties.open("a") as more:
            more.write("\n[edgelb]\nretries = 3\n")
        dcos("config", "set", "core.dcos_acs_token", "a.b.c", folder=folder)
        (app,) = json.loads(dcos("marathon", "app", "list", "--json", folder=folder))
        assert app["id"] == "/hello" and app["tasksRunning"] == 1
        assert json.loads(dcos("job", "list", "--json", folder=folder)) == []
        urls = {name: dcos("config", "show", f"{name}.url", folder=folder).strip() for name in asked}
        known = connect(dcos("config", "show", "core.mesos_master_url", folder=folder).strip(), **urls)
        assert [app.id for app in known.apps()] == ["/hello"] and known.jobs() == []
        for path, (name, url) in zip(("/v2/apps", "/v1/jobs"), urls.items(), strict=True):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"http://{url.rpartition('@')[2]}{path}", timeout=60)
            assert url.startswith("http://ops:"), name
        for words in (["cluster", "list"], ["config", "show"], ["local", "status"], ["marathon", "ping"]):
            seen += [dcos(*words, folder=folder)]
        seen += [dcos("cluster", "list", "--json", folder=folder), dcos("config", "show", "--json", folder=folder)]
        assert json.loads(seen[-1])["edgelb.retries"] == "3" and "1 apps" in seen[3]
        hidden = [*asked.values(), *(url.split(":")[2].split("@")[0] for url in urls.values()), "a.b.c"]
        for text in seen:
            assert not [secret for secret in hidden if secret in text], text
    finally:
        dcos("local", "down", folder=folder)
    nothing_is_left(folder, before)


def test_mistakes_are_told(folder):
    done = subprocess.run(
        [binary("dcos"), "node", "list"], capture_output=True, text=True, check=False,
        env={"DCOS_DIR": str(folder / "none")},
    )
    assert done.returncode == 1 and "dcos cluster setup" in done.stderr
