"""An app on a CNI network: Marathon, master, agent and Debian's plugins. Needs root."""

import json
import os
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from cluster import Cluster, eventually, get
from own_network import ADDRESS, own_network

PLUGINS = Path("/usr/lib/cni")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        not (PLUGINS / "bridge").exists(), reason="there is no Debian package containernetworking-plugins"
    ),
]

SERVER = "exec python3 -m http.server 80 --bind 0.0.0.0"


@pytest.fixture
def network(tmp_path):
    """A folder of configurations with `mesos-bridge`, as DC/OS has it on each agent."""
    bridge = f"c{os.getpid()}"
    (tmp_path / "mesos-bridge.conf").write_text(json.dumps({
        "name": "mesos-bridge", "type": "mesos-cni-port-mapper", "chain": bridge, "excludeDevices": [bridge],
        "delegate": {
            "type": "bridge", "bridge": bridge, "isGateway": True, "hairpinMode": True,
            "ipam": {"type": "host-local", "subnet": "10.254.99.0/24", "routes": [{"dst": "0.0.0.0/0"}],
                     "dataDir": str(tmp_path / "leases")},
        },
    }))
    yield tmp_path
    assert not list((tmp_path / "leases").glob("**/10.*")), "an address was not given back"
    for command in ("chain ip dcos_ports {}-prerouting", "chain ip dcos_ports {}-output", "map ip dcos_ports {}"):
        subprocess.run(["nft", "delete " + command.format(bridge)], capture_output=True)
    subprocess.run(["ip", "link", "del", bridge], capture_output=True)


APP = {
    "id": "/web", "cmd": SERVER, "cpus": 0.1, "mem": 64, "instances": 2,
    "container": {"type": "MESOS", "portMappings": [{"containerPort": 80, "hostPort": 0, "name": "http"}]},
    "networks": [{"mode": "container/bridge"}],
    "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0, "intervalSeconds": 1,
                      "gracePeriodSeconds": 60}],
}


def deploy(cluster: Cluster) -> list[dict]:
    eventually("Marathon's answer", lambda: get(f"{cluster.marathon}/v2/info"))
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{cluster.marathon}/v2/apps", json.dumps(APP).encode(), headers, method="POST")
    urllib.request.urlopen(request, timeout=60).close()
    return healthy(cluster)


def tasks(cluster: Cluster) -> list[dict]:
    return get(f"{cluster.marathon}/v2/apps/web/tasks")["tasks"]


def healthy(cluster: Cluster) -> list[dict]:
    def all_are() -> list[dict]:
        found = tasks(cluster)
        results = [task.get("healthCheckResults") or [{"alive": False}] for task in found]
        alive = all(result["alive"] for of_task in results for result in of_task)
        return found if len(found) == 2 and alive else []

    return eventually("two healthy tasks", all_are)


def remove(cluster: Cluster) -> None:
    urllib.request.urlopen(
        urllib.request.Request(f"{cluster.marathon}/v2/apps/web?force=true", method="DELETE"), timeout=30
    ).close()
    eventually("no tasks", lambda: not get(f"{cluster.marathon}/v2/tasks")["tasks"])


def reach(found: list[dict], node: str) -> None:
    for task in found:
        # Two servers on port 80 of one node: each has a port of the node that leads to it.
        for place in (f"{task['ipAddresses'][0]['ipAddress']}:80", f"{node}:{task['ports'][0]}"):
            with urllib.request.urlopen(f"http://{place}/", timeout=60) as answer:
                assert answer.status == 200


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def test_an_app_has_an_address_and_a_port(network):
    flags = {"network_cni_config_dir": str(network), "network_cni_plugins_dir": str(PLUGINS)}
    with Cluster(agent_flags=flags) as cluster:
        found = deploy(cluster)
        addresses = {address["ipAddress"] for task in found for address in task["ipAddresses"]}
        assert len(addresses) == 2 and all(address.startswith("10.254.99.") for address in addresses)
        reach(found, own_address())

        cluster.agent_program.kill()
        cluster.start_agent()
        found = healthy(cluster)
        assert {address["ipAddress"] for task in found for address in task["ipAddresses"]} == addresses

        remove(cluster)
        eventually("all addresses back", lambda: not list((network / "leases").glob("**/10.*")))


def test_an_agent_has_the_default_bridge():
    with own_network(), Cluster(agent_flags={"ip": ADDRESS, "hostname": ADDRESS}) as cluster:
        found = deploy(cluster)
        addresses = {address["ipAddress"] for task in found for address in task["ipAddresses"]}
        assert len(addresses) == 2 and all(address.startswith("172.31.254.") for address in addresses)
        reach(found, ADDRESS)
        # What they send out leaves as if the node had sent it.
        rules = subprocess.run(["iptables", "-t", "nat", "-S"], check=True, capture_output=True, text=True).stdout
        assert all(f"-s {address}/32 " in rules for address in addresses), rules
        assert "-j MASQUERADE" in rules
        remove(cluster)


def test_the_default_bridge_can_be_left_out():
    with own_network(), Cluster(agent_flags={"ucr_default_bridge": "false"}) as cluster:
        eventually("an agent", cluster.agents)
        written = list(Path(cluster.agent_program.flags["work_dir"]).glob("**/ucr-default-bridge.conf"))
        assert not written
