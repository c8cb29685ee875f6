"""Apps behind virtual addresses: Marathon, master, agent, DNS, and the kernel's nftables. Needs root."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import Cluster, Program, eventually, free_port, get
from own_network import ADDRESS, own_network
from own_network import run as command

PLUGINS = Path("/usr/lib/cni")
SERVER = Path(__file__).with_name("vip_server.py")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="nftables need root"),
    pytest.mark.skipif(not shutil.which("nft") or not shutil.which("dig"), reason="there is no nft or no dig"),
]


# Whatever the kernel lets us do, VIPs work.
PATHS = pytest.mark.parametrize("path", ["nftables", "auto"])


@pytest.fixture
def network(tmp_path):
    """A network of its own, and `mesos-bridge` in it as DC/OS has it on each agent."""
    (tmp_path / "mesos-bridge.conf").write_text(json.dumps({
        "name": "mesos-bridge", "type": "mesos-cni-port-mapper", "chain": "ucr", "excludeDevices": ["ucr-br0"],
        "delegate": {
            "type": "bridge", "bridge": "ucr-br0", "isGateway": True, "hairpinMode": True,
            "ipam": {"type": "host-local", "subnet": "10.254.98.0/24", "routes": [{"dst": "0.0.0.0/0"}],
                     "dataDir": str(tmp_path / "leases")},
        },
    }))
    with own_network():
        yield tmp_path


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def send(method: str, url: str, body: object = None) -> None:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60).close()


def look_up(cluster: Cluster, name: str) -> str:
    command = ["dig", "+short", "+time=5", "-p", str(cluster.dns_port), "@127.0.0.1", name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def answers(url: str, count: int = 40) -> set[str]:
    """Who answers so many connections; all of them must be answered."""
    return {read(url) for _ in range(count)}


class Vips:
    """A cluster whose agent makes virtual addresses work."""

    def __init__(self, network: Path, **flags: object) -> None:
        self.net = f"http://127.0.0.1:{(port := free_port())}"
        self.cluster = Cluster(agent_flags={
            "l4lb": "true", "net_port": port, "ip": ADDRESS, "hostname": ADDRESS, **flags,
            "network_cni_config_dir": network, "network_cni_plugins_dir": PLUGINS,
        })

    def __enter__(self) -> "Vips":
        self.cluster.__enter__()
        eventually("Marathon's answer", lambda: get(f"{self.cluster.marathon}/v2/info"))
        return self

    def __exit__(self, *failed: object) -> None:
        self.cluster.__exit__(*failed)

    def run(self, app: dict) -> None:
        send("POST", f"{self.cluster.marathon}/v2/apps", app)
        self.healthy(app["id"], app["instances"])

    def tasks(self, app: str) -> list[dict]:
        return get(f"{self.cluster.marathon}/v2/apps{app}/tasks")["tasks"]

    def healthy(self, app: str, count: int) -> None:
        def all_are() -> bool:
            tasks = self.tasks(app)
            results = [task.get("healthCheckResults") or [{"alive": False}] for task in tasks]
            return len(tasks) == count and all(result["alive"] for of_task in results for result in of_task)

        eventually(f"{count} healthy tasks of {app}", all_are)

    def ids(self, app: str) -> set[str]:
        return {task["id"] for task in self.tasks(app)}

    def backends(self, vip: str) -> list:
        return next((found["backend"] for found in get(f"{self.net}/v1/vips") if found["vip"] == vip), [])


def app(name: str, instances: int, port: str, **more: object) -> dict:
    health = {"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0, "intervalSeconds": 1,
              "gracePeriodSeconds": 60, "maxConsecutiveFailures": 1000}
    return {"id": name, "cmd": f"exec {sys.executable} {SERVER} {port}", "cpus": 0.1, "mem": 64,
            "instances": instances, "healthChecks": [health], **more}


@PATHS
def test_apps_on_the_network_of_their_node(network, path):
    posix = {"launcher": "posix", "isolation": "posix/cpu,posix/mem", "l4lb_data_path": path}
    with Vips(network, **posix) as vips:
        labels = {"VIP_0": "/web:80", "VIP_1": "10.77.1.2:8080"}
        vips.run(app("/web", 2, "$PORT0", portDefinitions=[{"port": 0, "name": "http", "labels": labels}]))
        name = "web.marathon.l4lb.thisdcos.directory"
        # The agent and Marathon each hear of health by themselves.
        for vip in (f"{name}:80", "10.77.1.2:8080"):
            eventually(vip, lambda vip=vip: len(vips.backends(vip)) == 2)
        address = eventually("the name", lambda: look_up(vips.cluster, name))
        # What the original makes of this name: 11.0.0.0 and erlang:phash2(<<"web.marathon">>, 16777214).
        assert address == "11.225.37.143"
        assert look_up(vips.cluster, "web.marathon.l4lb.thisdcos.global") == address
        both = vips.ids("/web")
        for url in (f"http://{address}/", "http://10.77.1.2:8080/"):
            eventually(url, lambda url=url: answers(url) == both)
        command = ["curl", "-s", "--fail", "--resolve", f"{name}:80:{address}", f"http://{name}/"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout in both

        # One falls ill: it keeps no place among those who answer.
        ill = read(f"http://{address}/sicken")
        eventually("only the other", lambda: answers(f"http://{address}/") == both - {ill})
        assert len(vips.backends(f"{name}:80")) == 2

        # The agent starts anew: VIPs work all the time, and go on following.
        vips.cluster.agent_program.kill()
        assert answers(f"http://{address}/") == both - {ill}
        vips.cluster.start_agent()
        assert answers(f"http://{address}/") == both - {ill}
        eventually("what the agent tells", lambda: len(vips.backends(f"{name}:80")) == 2)
        metrics = read(f"{vips.net}/v1/metrics/l4lb")
        assert f'connections_total{{vip="{name}:80",protocol="tcp"' in metrics

        send("DELETE", f"{vips.cluster.marathon}/v2/apps/web?force=true")
        eventually("no VIPs", lambda: get(f"{vips.net}/v1/vips") == [])
        # The agent and the name server each follow the master by themselves.
        eventually("no name", lambda: look_up(vips.cluster, name) == "")


@pytest.mark.skipif(not (PLUGINS / "bridge").exists(), reason="no Debian package containernetworking-plugins")
@PATHS
def test_containers_reach_virtual_addresses_their_own_included(network, path):
    with Vips(network, l4lb_data_path=path) as vips:
        mapping = {"containerPort": 80, "hostPort": 0, "labels": {"VIP_0": "/inner:80"}}
        inner = app("/inner", 2, "80", networks=[{"mode": "container/bridge"}],
                    container={"type": "MESOS", "portMappings": [mapping]})
        vips.run(inner)
        definition = {"port": 0, "labels": {"VIP_0": "/outer:80"}}
        vips.run(app("/outer", 1, "$PORT0", portDefinitions=[definition]))
        inner_ids, outer_ids = vips.ids("/inner"), vips.ids("/outer")
        urls = {}
        for name, ids in (("inner", inner_ids), ("outer", outer_ids)):
            name = f"{name}.marathon.l4lb.thisdcos.directory"
            urls[f"http://{eventually(name, lambda name=name: look_up(vips.cluster, name))}/"] = ids
        for url, ids in urls.items():
            # From the node.
            eventually(url, lambda url=url, ids=ids: answers(url) == ids)
        for task in vips.tasks("/inner"):
            # From each container, which is behind one of them itself.
            own = f"http://{task['ipAddresses'][0]['ipAddress']}:80/ask?"
            for url, ids in urls.items():
                assert answers(own + url) == ids, f"{task['id']} asks {url}"

        # The last task gone, so is the address.
        send("PUT", f"{vips.cluster.marathon}/v2/apps/inner?force=true", {"instances": 0})
        eventually("no VIP", lambda: vips.backends("inner.marathon.l4lb.thisdcos.directory:80") == [])
        # The addresses of containers go back before their network does.
        eventually("all addresses back", lambda: not list((network / "leases").glob("**/10.*")))


# Where the other nodes are.
SECOND, THIRD = "10.99.0.3", "10.99.0.4"


class Nodes(Vips):
    """Two more agents beside that one; all gossip, and the first answers names."""

    def __init__(self, network: Path, path: str) -> None:
        key = network / "gossip.key"
        key.touch(mode=0o600)
        key.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
        ports = {ip: free_port() for ip in (ADDRESS, SECOND, THIRD)}
        gossip = {"gossip_key": key, "gossip_join": ",".join(f"{ip}:{port}" for ip, port in ports.items())}
        posix = {"launcher": "posix", "isolation": "posix/cpu,posix/mem"}
        super().__init__(network, l4lb_data_path=path, dns="true", dns_resolvers="127.0.0.1:9", **posix, **gossip,
                         gossip_port=ports[ADDRESS])
        first = self.cluster.agent_program

        def other(ip: str) -> Program:
            folder = self.cluster.folder / ip
            return Program("dcos-agent", {
                "ip": ip, "hostname": ip, "port": free_port(), "work_dir": folder / "work", "runtime_dir": folder / "run",
                "master": self.cluster.master, "resources": first.flags["resources"], **posix, **gossip,
                "gossip_port": ports[ip], "net_port": free_port(),
            }, self.cluster.folder / f"{ip}.log", first.env)

        self.second, self.third = other(SECOND), other(THIRD)

    def __enter__(self) -> "Nodes":
        super().__enter__()
        for agent in (self.second, self.third):
            agent.start()
        eventually("the other agents", lambda: len(self.cluster.agents()) == 3)
        return self

    def __exit__(self, *failed: object) -> None:
        for agent in (self.second, self.third):
            agent.stop(signal.SIGUSR1)
        super().__exit__(*failed)

    def metric(self, name: str) -> float:
        lines = read(f"{self.net}/v1/metrics/l4lb").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def ask_agent(name: str) -> str:
    found = subprocess.run(["dig", "+short", "+time=5", "+tries=1", "@198.51.100.1", name], capture_output=True, text=True)
    return "" if found.returncode else found.stdout.strip()


@PATHS
def test_a_node_that_starts_while_no_master_leads_has_what_it_knew(network, path):
    for ip in (SECOND, THIRD):
        command(f"ip addr add {ip}/24 dev eth0")
    with Nodes(network, path) as nodes:
        definition = {"port": 0, "name": "http", "labels": {"VIP_0": "/web:80"}}
        apart = [["hostname", "UNIQUE"], ["hostname", "UNLIKE", THIRD]]
        nodes.run(app("/web", 2, "$PORT0", portDefinitions=[definition], constraints=apart))
        name = "web.marathon.l4lb.thisdcos.directory"
        address = eventually("the name", lambda: ask_agent(name))
        url = f"http://{address}/"
        tasks = {task["host"]: task["id"] for task in nodes.tasks("/web")}
        eventually("both", lambda: answers(url) == set(tasks.values()))
        first = {tasks[ADDRESS]}
        # Names are written down once a second, and tasks that are healthy were told of before.
        names = nodes.cluster.folder / "agent/names/state"
        eventually("what is kept", lambda: all(id.encode() in names.read_bytes() for id in tasks.values()))

        # Nobody leads any more, and a node dies.
        nodes.cluster.master_program.kill()
        nodes.second.kill()
        eventually("the one that is there", lambda: answers(url) == first)

        # The process is killed and begins anew: nothing that was right changes, and the dead node does not come back.
        agent = nodes.cluster.agent_program
        agent.kill()
        agent.start()
        eventually("its memory", lambda: nodes.metric("remembered_seconds") > 0)
        until = time.monotonic() + 8
        while time.monotonic() < until:
            assert answers(url, 10) == first
        eventually("the name", lambda: ask_agent(name) == address)

        # The node is rebooted: its kernel knows nothing.
        agent.kill()
        command("nft delete table inet dcos-l4lb")
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=1)
        agent.start()
        eventually("the virtual address", lambda: answers(url, 1))
        # Who is dead the node hears from those who live.
        eventually("nobody dead", lambda: answers(url) == first)
        eventually("the name", lambda: ask_agent(name) == address)
        assert len(nodes.backends(f"{name}:80")) == 2

        # A master leads again, in a world that has changed.
        nodes.cluster.master_program.start()
        eventually("Marathon's answer", lambda: get(f"{nodes.cluster.marathon}/v2/info"))
        eventually("the agent's return", lambda: [one for one in nodes.cluster.agents() if one["active"]])
        eventually("what a master tells", lambda: nodes.metric("remembered_seconds") == 0)
        assert answers(url) == first
        nodes.run(app("/other", 1, "$PORT0",
                      portDefinitions=[{"port": 0, "labels": {"VIP_0": "10.77.1.3:80"}}]))
        eventually("the new one", lambda: answers("http://10.77.1.3/") == nodes.ids("/other"))
        assert answers(url) == first
        nodes.second.start()
        eventually("both again", lambda: answers(url) == set(tasks.values()))
        send("DELETE", f"{nodes.cluster.marathon}/v2/apps/web?force=true")
        eventually("no VIP", lambda: nodes.backends(f"{name}:80") == [])
        eventually("no name", lambda: ask_agent(name) == "")
