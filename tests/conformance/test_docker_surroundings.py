"""What a task of a Docker Engine finds around it: networks, ports, volumes, parameters, checks, sessions."""

import json
import urllib.request

import pytest
from cluster import TASK_PORTS, Cluster, eventually
from docker_engine import SERVER
from docker_tasks import App, Docker, flags, last, parameters
from session import Agent, Input, container_of
from volume_plugin import VolumePlugin

SUBNET = "172.31.79."


@pytest.fixture(scope="module")
def cluster(engine):
    network = {"Name": "team", "IPAM": {"Config": [{"Subnet": SUBNET + "0/24"}]}}
    engine.ask("POST", "/networks/create", network)
    dns = {"docker": [{"network_mode": "USER", "network_name": "team",
                       "dns": {"nameservers": ["192.0.2.53"], "search": ["team.example"]}}]}
    with Cluster(agent_flags=flags(engine, default_container_dns=json.dumps(dns))) as cluster:
        yield cluster


def output(cluster, tasks) -> str:
    """What the only task printed; it has to finish."""
    update = last(cluster, tasks)
    assert update["state"] == "TASK_FINISHED", update
    (log,) = (cluster.folder / "agent").glob(f"slaves/*/frameworks/{tasks.registered_as}/executors/*/runs/latest/stdout")
    return log.read_text()


def in_network(*names):
    return {"network_infos": [{"name": name} for name in names]}


def test_a_network_of_its_own(cluster, engine):
    task = Docker(1, "cat /etc/resolv.conf /etc/hosts", {"network": "USER"}, in_network("team"))
    said = output(cluster, task)
    assert SUBNET in said, "its address"
    (container,) = [one for one in engine.containers() if "team" in one["NetworkSettings"]["Networks"]]
    asked = engine.ask("GET", f"/containers/{container['Id']}/json")["HostConfig"]
    assert (asked["Dns"], asked["DnsSearch"]) == (["192.0.2.53"], ["team.example"])


def test_networks_that_make_no_sense_are_refused(cluster):
    def why(docker, container=None):
        update = last(cluster, Docker(1, "true", docker, container))
        assert (update["state"], update["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED")
        return update["message"]

    assert "No network info found in container info" in why({"network": "USER"})
    assert "Only a single network" in why({"network": "USER"}, in_network("team", "other"))
    assert "no-such-net" in why({"network": "USER"}, in_network("no-such-net"))
    ports = {"port_mappings": [{"host_port": 31000, "container_port": 80}]}
    assert "Port mappings are only supported" in why({"network": "HOST", **ports})
    assert "Port [31000] not included in resources" in why({"network": "BRIDGE", **ports})
    assert "Unable to set hostname" in why({"network": "HOST"}, {"hostname": "h"})


@pytest.mark.parametrize("network", ["BRIDGE", "USER"])
def test_ports_are_published(cluster, network):
    mapping = {"containerPort": 8080, "hostPort": 0, "protocol": "tcp"}
    more = {"ipAddress": {"networkName": "team"}} if network == "USER" else {}
    checks = [{"protocol": kind, "port": 8080, "gracePeriodSeconds": 30, "intervalSeconds": 1,
               **({"path": "/"} if kind == "MESOS_HTTP" else {})} for kind in ("MESOS_HTTP", "MESOS_TCP")]
    with App(cluster, f"served-{network.lower()}", SERVER + "8080", network=network,
             docker={"portMappings": [mapping]}, healthChecks=checks[:1], **more) as app:
        task = eventually("a running task", app.running)
        (port,) = task["ports"]
        assert port in TASK_PORTS

        def answer():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.read() == b"hello"

        eventually("an answer on the host's port", answer)
        eventually("health", lambda: healthy(app))
        subnet = "172.31.78." if network == "BRIDGE" else SUBNET
        assert app.running()["ipAddresses"][0]["ipAddress"].startswith(subnet)


def healthy(app):
    task = app.running()
    return task and any(one["alive"] for one in task.get("healthCheckResults", []))


def test_tcp_checks_connect_inside_the_container(cluster):
    check = {"protocol": "MESOS_TCP", "port": 8080, "gracePeriodSeconds": 30, "intervalSeconds": 1}
    with App(cluster, "connected", SERVER + "8080", network="BRIDGE", healthChecks=[check]) as app:
        eventually("health", lambda: healthy(app))


def test_a_task_that_fails_its_checks_is_killed(cluster):
    check = {"type": "TCP", "tcp": {"port": 8080}, "grace_period_seconds": 0.0, "interval_seconds": 0.1,
             "consecutive_failures": 1, "delay_seconds": 0.0}
    update = last(cluster, Docker(1, "exec sleep 600", {"network": "BRIDGE"}, health_check=check))
    assert update["healthy"] is False, update
    assert update["state"] in ("TASK_KILLED", "TASK_FAILED")


def test_volumes_of_a_driver(cluster, engine):
    with VolumePlugin() as plugin:
        def volume(name, target, **options):
            pairs = [{"key": key, "value": value} for key, value in options.items()]
            return {"container_path": target, "mode": "RW", "source": {"type": "DOCKER_VOLUME", "docker_volume": {
                "driver": plugin.name, "name": name, "driver_options": {"parameter": pairs}}}}

        task = Docker(1, "echo kept > /data/file", container={"volumes": [volume("team", "/data", size="5")]})
        assert last(cluster, task)["state"] == "TASK_FINISHED"
        assert (plugin.folder / "team" / "file").read_text() == "kept\n"
        assert plugin.options["team"] == {"size": "5"}
        eventually("it is unmounted", lambda: not plugin.mounted["team"])
        # A driver for all volumes, as Mesos has it.
        named = {"volumes": [{"host_path": "team", "container_path": "/data", "mode": "RO"}]}
        assert output(cluster, Docker(1, "cat /data/file", {"volume_driver": plugin.name}, named)) == "kept\n"
        full = last(cluster, Docker(1, "true", container={"volumes": [volume("big", "/data", size="too much")]}))
        assert (full["state"], full["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED")
        assert "there is not so much room" in full["message"]
        unknown = volume("other", "/data")
        unknown["source"]["docker_volume"]["driver"] = "no-such-driver"
        refused = last(cluster, Docker(1, "true", container={"volumes": [unknown]}))
        assert refused["state"] == "TASK_FAILED" and "no-such-driver" in refused["message"]
        for one in engine.containers():
            if one["State"] == "exited":
                engine.ask("DELETE", f"/containers/{one['Id']}?force=true&v=true")


def test_parameters_reach_the_engine(cluster, engine):
    given = parameters(
        ("hostname", "named"), ("env", "GIVEN=yes"), ("workdir", "/tmp"), ("label", "team=blue"),
        ("cap-drop", "ALL"), ("ulimit", "nofile=99:99"), ("read-only", "true"), ("tmpfs", "/tmp:size=1m"),
        ("add-host", "peer:192.0.2.7"), ("sysctl", "net.ipv4.ip_forward=0"), ("user", "12345:54321"),
    )
    script = "echo $GIVEN; pwd; ulimit -n; id -u; id -g; cat /etc/hosts /proc/self/status; echo x > /file || echo refused"
    said = output(cluster, Docker(1, script, {"network": "BRIDGE", **given}))
    assert said.splitlines()[:5] == ["yes", "/tmp", "99", "12345", "54321"]
    for expected in ("192.0.2.7\tpeer", "named", "CapBnd:\t0000000000000000", "refused"):
        assert expected in said, expected
    (container,) = [one for one in engine.containers() if one["Labels"].get("team") == "blue"]
    asked = engine.ask("GET", f"/containers/{container['Id']}/json")
    assert asked["HostConfig"]["ReadonlyRootfs"] is True


def test_sessions_run_inside(cluster):
    with App(cluster, "inside", "echo here > /tmp/mark; exec sleep 600") as app:
        eventually("a running task", app.running)
        tasks = [task for one in cluster.state()["frameworks"] for task in one["tasks"] if task["name"] == "inside"]
        parent, agent = container_of(tasks[0]), Agent(cluster.agent_port)
        eventually("its mark", lambda: agent.shell(parent, "cat /tmp/mark").rest()["STDOUT"] == b"here\n")
        session = agent.shell(parent, "cat; echo err >&2; exit 7")
        assert session.status == 200, session.error
        typed = Input(agent, session.container_id)
        typed.data(b"in\xff\x00\n")
        typed.data(b"")
        assert session.rest() == {"STDOUT": b"in\xff\x00\n", "STDERR": b"err\n"}
        assert agent.wait(session.container_id) == 7 << 8

        terminal = agent.shell(parent, "while read line; do stty size; done",
                               tty={"window_size": {"rows": 11, "columns": 33}})
        typed = Input(agent, terminal.container_id)

        def says(size):
            # The engine gives a terminal its size a moment after the start.
            typed.data(b"\n")
            return size in terminal.until(lambda said: said.count(b"\n") >= 2)

        eventually("its size", lambda: says(b"11 33"))
        typed.size(50, 132)
        eventually("the new size", lambda: says(b"50 132"))
        typed.data(b"\x04")
        terminal.rest()

        left = agent.shell(parent, "echo $$; exec sleep 600")
        left.until(lambda said: b"\n" in said)
        left.close()
        assert agent.wait(left.container_id) in (9, 137 << 8)
        assert app.running(), "the task runs on"
        missing = agent.session(parent, ["/no/such/program"])
        assert missing.status == 400 or agent.wait(missing.container_id) != 0
