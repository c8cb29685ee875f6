"""Docker's containers in overlay networks, beside those of the agent itself. Needs root and a dockerd."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import docker_engine
import pytest
from cluster import Cluster, eventually, get
from own_network import ADDRESS, own_network

SERVER = Path(__file__).with_name("vip_server.py")
reason = docker_engine.why_not()
pytestmark = [
    pytest.mark.skipif(reason is not None, reason=str(reason)),
    pytest.mark.skipif(
        not shutil.which("nft") or not Path("/usr/lib/cni/bridge").exists(), reason="there is no nft, or no CNI plugins"
    ),
]


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def rules() -> list[str]:
    """What `iptables` says of the node's filter."""
    return subprocess.run(["iptables", "-S"], check=True, capture_output=True, text=True).stdout.splitlines()


def run(cluster: Cluster, name: str, cmd: str, container: dict) -> str:
    """Runs an app in `dcos`; says where its container is."""
    app = {"id": name, "cmd": cmd, "cpus": 0.1, "mem": 64, "instances": 1, "container": container,
           "networks": [{"mode": "container", "name": "dcos"}]}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{cluster.marathon}/v2/apps", json.dumps(app).encode(), headers, method="POST")
    urllib.request.urlopen(request, timeout=60).close()

    def address() -> str:
        tasks = get(f"{cluster.marathon}/v2/apps{name}/tasks")["tasks"]
        running = [task for task in tasks if task["state"] == "TASK_RUNNING" and task.get("ipAddresses")]
        return running[0]["ipAddresses"][0]["ipAddress"] if running else ""

    return eventually(f"{name}'s address", address)


def test_both_halves_talk():
    with own_network(), docker_engine.Engine() as engine:
        # As Docker has it where it was the one who let the kernel forward.
        subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
        flags = {"overlay": "true", "ip": ADDRESS, "hostname": ADDRESS, "containerizers": "docker,mesos",
                 "docker_socket": engine.socket, "cgroups_root": f"dcos-overlay-{os.getpid()}", "accept_forwarded": "true"}
        with Cluster(agent_flags=flags, master_flags={"overlay": "{}"}) as cluster:
            eventually("Marathon's answer", lambda: get(f"{cluster.marathon}/v2/info"))
            own = f"http://{ADDRESS}:{cluster.agent_port}/overlay-agent/overlay"

            def fine() -> bool:
                return {part["state"]["status"] for part in get(own)["overlays"]} == {"STATUS_OK"}

            eventually("both overlays", fine)
            network = engine.ask("GET", "/networks/dcos")
            of_ipv6 = engine.ask("GET", "/networks/dcos6")
            assert network["IPAM"]["Config"][0]["Subnet"] == "9.0.0.128/25"
            assert network["Options"]["com.docker.network.bridge.name"] == "d-dcos"
            assert network["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
            docker = run(cluster, "/docker", docker_engine.SERVER + "80",
                         {"type": "DOCKER", "docker": {"image": docker_engine.IMAGE}})
            mesos = run(cluster, "/own", f"exec {sys.executable} {SERVER} 80", {"type": "MESOS"})
            assert (docker, mesos) == ("9.0.0.130", "9.0.0.2")
            eventually("the node is answered", lambda: read(f"http://{docker}:80/") == "hello")
            eventually("a container is answered", lambda: read(f"http://{mesos}:80/ask?http://{docker}:80/") == "hello")
            # What passes has a chain of its own, which is called again when somebody empties Docker's.
            assert rules().index("-A DOCKER-USER -j DCOS-DOCKER") < rules().index("-A DOCKER-USER -j RETURN")
            subprocess.run(["iptables", "-F", "DOCKER-USER"], check=True)
            eventually("the call of the chain", lambda: "-A DOCKER-USER -j DCOS-DOCKER" in rules())
            assert read(f"http://{mesos}:80/ask?http://{docker}:80/") == "hello"
            # Reviewed, the network stays the same.
            cluster.agent_program.kill()
            cluster.agent_program.start()
            eventually("the agent's return", fine)
            assert engine.ask("GET", "/networks/dcos")["Id"] == network["Id"]
            assert engine.ask("GET", "/networks/dcos6")["Id"] == of_ipv6["Id"]
            assert read(f"http://{mesos}:80/ask?http://{docker}:80/") == "hello"
