"""`dcos local`: a cluster with one command, and a host left as it was found."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import binary, eventually
from dcos import connect
from own_network import own_network


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


def nothing_is_left(folder: Path, before: dict[str, set[str]], *made: str) -> None:
    """Of a cluster that was ended, but for what was `made` beside it; the kernel may take a moment over what it was told to
    end."""
    def left() -> dict[str, set[str]]:
        return {kind: more for kind, things in host(folder).items() if (more := things - before[kind] - {*made})}

    eventually(f"the end of {left()}", lambda: not left())


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    for place in (tmp_path / "local", tmp_path / "home" / "local", tmp_path / "dcos-project"):
        subprocess.run([binary("dcos"), "local", "down", "--dir", str(place)], check=False)


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


def test_clusters_of_one_name_are_told_apart(folder):
    for number in (1, 2):
        known = folder / "home" / "clusters" / f"id-{number}"
        known.mkdir(parents=True)
        (known / "dcos.toml").write_text(
            f'[core]\nmesos_master_url = "http://127.0.0.{number}:5050"\n[cluster]\nname = "local"\n')
    assert dcos("-q", "cluster", "list", folder=folder).split() == ["id-1", "id-2"]
    for words in (["attach"], ["remove"], ["open"], ["rename"]):
        more = ["other"] if words == ["rename"] else []
        said = refused("cluster", *words, "local", *more, folder=folder)
        assert "id-1 (http://127.0.0.1:5050), id-2 (http://127.0.0.2:5050)" in said, said
    dcos("cluster", "attach", "id-2", folder=folder)
    assert dcos("-q", "cluster", "list", "--attached", folder=folder).split() == ["id-2"]
    assert "id-1 (" in refused("cluster", "rename", "id-2", "local", folder=folder)
    dcos("cluster", "rename", "id-2", "mine", folder=folder)
    dcos("cluster", "attach", "local", folder=folder)
    attached = json.loads(dcos("--json", "cluster", "list", "--attached", folder=folder))
    assert [(one["cluster_id"], one["name"]) for one in attached] == [("id-1", "local")]
    assert dcos("cluster", "open", "mine", folder=folder) == "http://127.0.0.2:5050\n"
    assert dcos("cluster", "open", folder=folder) == "http://127.0.0.1:5050\n"
    # Where there is a browser it gets the URL, and nothing is printed.
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {folder}/opened\n')
    browser.chmod(0o755)
    assert dcos("cluster", "open", folder=folder, BROWSER=str(browser)) == ""
    assert (folder / "opened").read_text() == "http://127.0.0.1:5050"
    assert "core.dcos_acs_token" in dcos("-q", "config", "keys", folder=folder).split()
    assert json.loads(dcos("--json", "config", "keys", folder=folder)).keys() >= {"core.mesos_master_url"}
    assert dcos("-q", "config", "show", folder=folder).split() == ["cluster.name", "core.mesos_master_url"]


def test_shells_complete_commands(folder):
    assert dcos("completion", folder=folder) == dcos("completion", "bash", folder=folder)
    words = 'source "$1"; COMP_WORDS=(dcos cluster re); COMP_CWORD=2; _dcos dcos re cluster; echo ${COMPREPLY[@]}'
    script = folder / "script"
    script.write_text(dcos("completion", "bash", folder=folder))
    done = subprocess.run(["bash", "-c", words, "bash", str(script)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["rename", "remove"], done
    assert "#compdef dcos" in dcos("completion", "zsh", folder=folder)
    assert "complete -c dcos" in dcos("completion", "fish", folder=folder)
    assert "csh" in refused("completion", "csh", folder=folder)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_who_is_interrupted_ends_what_he_started(folder, how):
    before = host(folder)
    place = folder / "local"
    for _ in range(5):
        up = subprocess.Popen(
            [binary("dcos"), "local", "up", "--free-ports", "--dir", str(place)], stderr=subprocess.PIPE, text=True,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "DCOS_DIR": str(folder / "home"), "HOME": str(folder)},
            # What runs in the background of a script ignores SIGINT, and so would this.
            preexec_fn=lambda: signal.signal(how, signal.SIG_DFL),
        )
        for line in up.stderr:
            if "waiting for" in line:
                break
        assert json.loads((place / "local.json").read_text())["processes"]
        up.send_signal(how)
        said = up.communicate(timeout=180)[1]
        if up.returncode != 0:
            break
        # It came up before it heard of that.
        dcos("local", "down", "--dir", str(place), folder=folder)
    assert up.returncode == 1 and "interrupted" in said, said
    nothing_is_left(folder, before)


def test_whoever_ignores_a_signal_is_not_ended_by_it(folder):
    up = subprocess.Popen(
        ["nohup", binary("dcos"), "local", "up", "--free-ports", "--dir", str(folder / "local")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "DCOS_DIR": str(folder / "home"), "HOME": str(folder)},
    )
    for line in up.stderr:
        if "waiting for" in line:
            break
    up.send_signal(signal.SIGHUP)
    told, said = up.communicate(timeout=180)
    assert up.returncode == 0 and "The cluster works" in told, said


def test_what_others_have_in_the_directory_stays(folder):
    project = folder / "dcos-project"
    (project / "src").mkdir(parents=True)
    local = ["--dir", str(project)]
    said = refused("local", "up", "--free-ports", *local, folder=folder)
    assert "empty directory" in said and "src" in said, said
    (project / "src").rmdir()
    told = json.loads(dcos("local", "up", "--free-ports", "--sample", "--json", *local, folder=folder))
    (project / "notes").mkdir()
    (project / "notes" / "mine").write_text("precious")
    [sandbox] = [path for path in project.glob("agent-0/work/**/runs/*") if path.name != "latest" and "hello" in str(path)]
    shells = [subprocess.Popen(["sleep", "1000"], cwd=place) for place in (project, sandbox)]
    shells.append(subprocess.Popen(["tail", "-f", str(project / "master.log")], stdout=subprocess.DEVNULL))
    try:
        for process in json.loads(dcos("local", "status", "--json", *local, folder=folder))["processes"]:
            os.kill(process["pid"], signal.SIGKILL)
        done = run("local", "down", *local, folder=folder)
        assert done.returncode == 0 and "none of the cluster's" in done.stderr, done.stderr
        assert [shell.poll() for shell in shells] == [None] * 3
    finally:
        for shell in shells:
            shell.kill()
            shell.wait()
    assert [path.name for path in project.rglob("*")] == ["notes", "mine"]
    with pytest.raises(OSError):
        urllib.request.urlopen(told["sample"], timeout=60)


def test_down_forgets_no_other_cluster_of_its_name(folder):
    local = json.loads(dcos("local", "up", "--free-ports", "--json", folder=folder))
    assert Path(local["directory"]) == folder / "home" / "local"
    clusters = folder / "home" / "clusters"
    assert (clusters / "local" / "dcos.toml").exists()
    (clusters / "local").rename(clusters / "far")
    dcos("local", "down", folder=folder)
    assert 'name = "local"' in (clusters / "far" / "dcos.toml").read_text()


def bridged(there: list[str], folder: Path) -> None:
    """Something that runs behind the bridge, with a port of the node that leads to it."""
    (folder / "app.json").write_text(json.dumps({
        "id": "/bridged", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "networks": [{"mode": "container/bridge"}],
        "container": {"type": "MESOS", "portMappings": [{"containerPort": 80, "hostPort": 0}]},
    }))
    dcos("marathon", "app", "add", str(folder / "app.json"), *there, folder=folder)


def names_of_links() -> set[str]:
    return {line.split(": ")[1].split("@")[0] for line in command("ip", "-o", "link")}


def rules() -> set[str]:
    """Rules and chains of this machine, as far as they are about containers behind bridges."""
    return {line for line in command("iptables-save") if "CNI-" in line or "DCOS-" in line}


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: bridges take root")
@pytest.mark.skipif(not Path("/usr/lib/cni/bridge").exists(), reason="skipped: there are no CNI plugins")
@pytest.mark.parametrize("crash", [False, True])
def test_the_network_is_left_as_it_was(folder, crash):
    local = ["--dir", str(folder / "local"), "--json"]
    with own_network():
        before, ruled = host(folder), rules()
        told = json.loads(dcos("local", "up", "--free-ports", *local, folder=folder))
        bridged(["--master", told["master"], "--marathon", told["marathon"]], folder)
        assert "ucr-br0" in names_of_links() and command("nft", "list", "table", "ip", "dcos_ports") and rules() - ruled
        if crash:
            for process in json.loads(dcos("local", "status", *local, folder=folder))["processes"]:
                subprocess.run(["kill", "-9", str(process["pid"])], check=True)
        done = run("local", "down", *local, folder=folder)
        assert done.returncode == 0 and "stay" not in done.stderr, done.stderr
        # `iptables` makes its table when it is first used in a network, and leaves it there.
        nothing_is_left(folder, before, str(folder / "app.json"), "table ip nat", "table ip filter")
        eventually("the rules of before", lambda: rules() == ruled)


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: bridges take root")
@pytest.mark.skipif(not Path("/usr/lib/cni/bridge").exists(), reason="skipped: there are no CNI plugins")
def test_what_another_cluster_may_use_stays(folder):
    other = ["--dir", str(folder / "other"), "--json"]
    local = ["--dir", str(folder / "local"), "--json"]
    with own_network():
        dcos("local", "up", "--free-ports", *other, folder=folder)
        try:
            told = json.loads(dcos("local", "up", "--free-ports", *local, folder=folder))
            bridged(["--master", told["master"], "--marathon", told["marathon"]], folder)
            done = run("local", "down", *local, folder=folder)
            assert "ucr-br0" in done.stderr and "an agent of this machine" in done.stderr, done.stderr
            assert "ucr-br0" in names_of_links()
        finally:
            dcos("local", "down", *other, folder=folder)
        assert "ucr-br0" not in names_of_links()


def test_a_deployment_that_waits_is_told_once(folder):
    local = ["--dir", str(folder / "local"), "--json"]
    told = json.loads(dcos("local", "up", "--free-ports", *local, folder=folder))
    there = ["--master", told["master"], "--marathon", told["marathon"]]
    check = {"protocol": "COMMAND", "command": {"value": "false"}, "gracePeriodSeconds": 60}
    (folder / "app.json").write_text(json.dumps({"id": "/fails", "cmd": "exit 3", "cpus": 0.1, "mem": 32,
                                                 "backoffSeconds": 120, "healthChecks": [check]}))
    add = run("marathon", "app", "add", str(folder / "app.json"), "--deadline", "40", *there, folder=folder)
    lines = [line for line in add.stderr.splitlines() if "step" in line]
    assert any("tries again" in line for line in lines), add.stderr
    assert len(lines) < 10, add.stderr
    (agent,) = dcos("-q", "node", "list", *there, folder=folder).split()
    for who in ([agent], ["--mesos-id", agent], ["--leader"]):
        assert " INFO " in dcos("node", "log", *who, "--lines", "all", *there, folder=folder), who
    assert "no agent nobody" in refused("node", "log", "nobody", *there, folder=folder)
    assert refused("node", "log", *there, folder=folder)
    summary = dcos("node", "metrics", "summary", agent, *there, folder=folder)
    assert "CPUS GIVEN" in summary and "N/A" not in summary, summary
    details = json.loads(dcos("--json", "node", "metrics", "details", agent, *there, folder=folder))
    assert details["slave/registered"] == 1 and details["system/load_1min"] >= 0
    groups = dcos("-q", "marathon", "group", "list", *there, folder=folder)
    assert groups == ""
    assert dcos("-q", "marathon", "debug", "list", *there, folder=folder).split() == ["/fails"]
    dcos("local", "down", *local, folder=folder)
