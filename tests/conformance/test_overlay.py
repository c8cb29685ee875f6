"""Overlay networks on hosts made of network namespaces: Marathon, masters, agents, the kernel's VXLAN. Needs root."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Program, binary, eventually, get
from own_network import own_network, run

PLUGINS = Path("/usr/lib/cni")
SERVER = Path(__file__).with_name("vip_server.py")
# The network between the hosts; the test is on it, too.
OUTSIDE, MASTER = "10.98.0.254", "10.98.0.1"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="there is no nft"),
    pytest.mark.skipif(
        not (PLUGINS / "bridge").exists(), reason="there is no Debian package containernetworking-plugins"
    ),
]


def said(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


class Host:
    """A network namespace with an address on the network between hosts."""

    def __init__(self, number: int) -> None:
        self.ip = f"10.98.0.{number}"
        self.name = f"dcos{os.getpid()}h{number}"
        run(f"ip netns add {self.name}")
        run(f"ip link add h{number} type veth peer name eth0 netns {self.name}")
        run(f"ip link set h{number} master hosts up")
        for command in ("link set lo up", f"addr add {self.ip}/24 dev eth0", "link set eth0 up",
                        f"route add default via {OUTSIDE}"):
            run(f"ip -n {self.name} {command}")
        self.link = f"h{number}"

    def cut(self) -> None:
        """As if the cable were pulled."""
        run(f"ip link set {self.link} down")

    def remove(self) -> None:
        run(f"ip netns del {self.name}")

    def ways(self) -> set[str]:
        """The nodes to which the tunnel end forwards."""
        entries = [line.split() for line in said(f"bridge -n {self.name} fdb show dev vtep1024").splitlines()]
        return {words[words.index("dst") + 1] for words in entries if "dst" in words and "permanent" in words}

    def dump(self) -> list[str]:
        """Whatever of the overlays could flap."""
        told = [said(f"ip -n {self.name} {what}") for what in (
            "-d link show vtep1024", "addr show vtep1024", "neigh show dev vtep1024 nud permanent",
            "route show table main", "route show table 42", "rule", "-6 route show table main")]
        told.append(said(f"bridge -n {self.name} fdb show dev vtep1024"))
        return [line for text in told for line in sorted(text.splitlines())]


class OnHost(Program):
    """A program on one of the hosts."""

    host: Host

    def passing(self, given: object) -> list[str]:
        return ["nsenter", f"--net=/var/run/netns/{self.host.name}"]


class Overlays:
    """A master, and agents that come when they are asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []
        self.agents: dict[int, OnHost] = {}
        self.watchers: list[subprocess.Popen] = []
        self.master_host = self.host(1)
        self.master = f"{MASTER}:5050"
        self.marathon = f"http://{MASTER}:8080"
        self.master_program = self.program("dcos-master", self.master_host, {
            "ip": MASTER, "hostname": MASTER, "work_dir": folder / "master", "without": "metronome,dns",
            "overlay": "{}", "overlay_agent_timeout": "20secs", "agent_ping_timeout": "1secs",
            "agent_reregister_timeout": "10mins",
        })

    def begin(self) -> None:
        self.master_program.start()

    def host(self, number: int) -> Host:
        host = Host(number)
        self.hosts.append(host)
        return host

    def program(self, name: str, host: Host, flags: dict) -> OnHost:
        log = self.folder / f"{host.link}.log"
        program = OnHost(name, flags, log, {"RUST_LOG": os.environ.get("RUST_LOG", "info")})
        program.host = host
        return program

    def join(self, number: int) -> Host:
        """An agent on another host; tasks can use the overlays once it is registered."""
        host = self.host(number)
        self.agents[number] = self.program("dcos-agent", host, {
            "ip": host.ip, "hostname": host.ip, "port": 5051, "master": self.master, "overlay": "true",
            "work_dir": self.folder / host.link, "runtime_dir": self.folder / f"{host.link}-run",
            "cgroups_root": f"dcos-overlay-{os.getpid()}-{number}",
            "resources": "cpus:4;mem:4096;disk:1000;ports:[31000-32000]",
        })
        self.agents[number].start()
        eventually(f"{host.ip}'s registration", lambda: host.ip in self.active())
        return host

    def active(self) -> set[str]:
        agents = get(f"http://{self.master}/slaves")["slaves"]
        return {agent["hostname"] for agent in agents if agent["active"]}

    def member(self, host: Host) -> dict:
        state = get(f"http://{self.master}/overlay-master/state")
        return next((agent for agent in state["agents"] if agent["ip"] == host.ip), {})

    def status(self, host: Host) -> set[str]:
        return {part["state"]["status"] for part in self.member(host).get("overlays", [])}

    def run(self, instances: int) -> None:
        app = {
            "id": "/web", "cmd": f"exec {sys.executable} {SERVER} 80", "cpus": 0.1, "mem": 64, "instances": instances,
            "container": {"type": "MESOS", "portMappings": [{"containerPort": 80, "name": "http"}]},
            "networks": [{"mode": "container", "name": "dcos"}], "constraints": [["hostname", "UNIQUE"]],
            "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0, "intervalSeconds": 1,
                              "gracePeriodSeconds": 60, "maxConsecutiveFailures": 1000}],
        }
        data = json.dumps(app).encode()
        headers = {"Content-Type": "application/json"}
        url = f"{self.marathon}/v2/apps/web?force=true"
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method="PUT"), timeout=60).close()

        def healthy() -> bool:
            tasks = self.tasks()
            results = [task.get("healthCheckResults") or [{"alive": False}] for task in tasks]
            return len(tasks) == instances and all(one["alive"] for of_task in results for one in of_task)

        eventually(f"{instances} healthy tasks", healthy)

    def tasks(self) -> list[dict]:
        return get(f"{self.marathon}/v2/apps/web/tasks")["tasks"]

    def addresses(self) -> dict[str, str]:
        """Where each task's container is, by its id."""
        return {task["id"]: task["ipAddresses"][0]["ipAddress"] for task in self.tasks()}

    def everybody_talks(self) -> None:
        """Each container asks each, itself included; and each host asks each."""
        addresses = self.addresses()
        for asking in addresses.values():
            for task, address in addresses.items():
                url = f"http://{asking}:80/ask?http://{address}:80/"
                command = f"nsenter --net=/var/run/netns/{self.asker().name} curl -sS --fail --max-time 20 {url}"
                assert said(command) == task, f"{asking} asks {address}"

    def asker(self) -> Host:
        return next(host for host in self.hosts if host.link != self.master_host.link)

    def dcos(self, *words: str) -> str:
        command = [binary("dcos"), "--master", f"http://{self.master}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def end(self) -> None:
        for watcher in self.watchers:
            watcher.kill()
            watcher.wait()
        for agent in self.agents.values():
            if agent.running():
                agent.stop(signal.SIGUSR1)
        self.master_program.stop()
        # Shown with a test that fails.
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log}", *log.read_text(errors="replace").splitlines()[-40:], sep="\n", file=sys.stderr)
        for host in self.hosts:
            host.remove()


@pytest.fixture
def overlays() -> Iterator[Overlays]:
    folder = Path(tempfile.mkdtemp(prefix="dcos-overlay-"))
    with own_network():
        for command in ("ip link add name hosts type bridge", "ip link set hosts up",
                        f"ip addr add {OUTSIDE}/24 dev hosts"):
            run(command)
        all_of_it = Overlays(folder)
        try:
            all_of_it.begin()
            eventually("Marathon's answer", lambda: get(f"{all_of_it.marathon}/v2/info"))
            yield all_of_it
        finally:
            all_of_it.end()
    shutil.rmtree(folder, ignore_errors=True)


def test_containers_of_all_hosts_talk_and_nothing_flaps(overlays):
    one, two = overlays.join(2), overlays.join(3)
    for host in (one, two):
        eventually("both fine", lambda host=host: overlays.status(host) == {"STATUS_OK"})
    overlays.run(2)
    addresses = overlays.addresses()
    assert {address.rsplit(".", 1)[0] for address in addresses.values()} == {"9.0.0", "9.0.1"}
    # In a status update the container has its own address, not its node's.
    for task in get(f"http://{overlays.master}/tasks")["tasks"]:
        status = task["statuses"][-1]["container_status"]["network_infos"][0]
        assert status["name"] == "dcos" and status["ip_addresses"][0]["ip_address"] == addresses[task["id"]]
    overlays.everybody_talks()

    # What the node itself says is what the master says of it.
    def own() -> dict:
        return get(f"http://{one.ip}:5051/overlay-agent/overlay")

    eventually("one word of both", lambda: own() == overlays.member(one))
    assert own()["overlays"][0]["subnet"] == "9.0.0.0/24"

    # The agent starts anew: containers talk all the time, and nothing changes.
    before = one.dump()
    watching = subprocess.Popen(
        ["ip", "-n", one.name, "monitor", "link", "address", "route", "neigh", "rule"],
        stdout=subprocess.PIPE, text=True)
    overlays.watchers.append(watching)
    overlays.agents[2].kill()
    overlays.everybody_talks()
    overlays.agents[2].start()
    eventually("its return", lambda: own() == overlays.member(one))
    eventually("their ways", lambda: (one.ways(), two.ways()) == ({two.ip}, {one.ip}))
    overlays.everybody_talks()
    assert one.dump() == before

    # So does the master: what it gave stays given.
    overlays.master_program.kill()
    overlays.master_program.start()
    eventually("both known", lambda: overlays.status(one) == overlays.status(two) == {"STATUS_OK"})
    assert one.dump() == before
    watching.terminate()
    seen = watching.communicate()[0]
    assert not [line for line in seen.splitlines() if "vtep1024" in line], seen
    eventually("the tasks", lambda: len(overlays.tasks()) == 2)

    # Another host joins.
    three = overlays.join(4)
    eventually("ways to it", lambda: three.ip in one.ways() and three.ip in two.ways())
    eventually("its own ways", lambda: three.ways() == {one.ip, two.ip})
    overlays.run(3)
    overlays.everybody_talks()
    members = json.loads(overlays.dcos("--json", "net", "members"))
    assert [member["ip"] for member in members] == [one.ip, two.ip, three.ip]
    table = overlays.dcos("net", "members")
    assert "44.128.0.3/20" in table and "dcos 9.0.2.0/24" in table and "STATUS_OK" in table
    assert "9.0.0.0/8" in overlays.dcos("net", "overlay")
    assert overlays.dcos("-q", "net", "overlay").split() == ["dcos", "dcos6"]

    # One dies: the others forget the way to it, and nothing else.
    two.cut()
    eventually("no way to it", lambda: one.ways() == {three.ip} and three.ways() == {one.ip})
    assert overlays.status(two) == {"STATUS_FAILED"}
    # It comes back with what it had.
    run(f"ip link set {two.link} up")
    eventually("ways to it", lambda: (one.ways(), three.ways()) == ({two.ip, three.ip}, {one.ip, two.ip}))
    assert overlays.member(two)["overlays"][0]["subnet"] == "9.0.1.0/24"


def test_containers_reach_what_is_outside_and_it_sees_their_node(overlays):
    one = overlays.join(2)
    overlays.run(1)
    address = next(iter(overlays.addresses().values()))
    script = ("import http.server as s, sys\n"
              "class H(s.BaseHTTPRequestHandler):\n"
              "  def do_GET(self):\n"
              "    body = self.client_address[0].encode(); self.send_response(200)\n"
              "    self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)\n"
              "  def log_message(self, *_): pass\n"
              f"s.HTTPServer(('{OUTSIDE}', 8000), H).serve_forever()")
    outside = subprocess.Popen([sys.executable, "-c", script])
    try:
        url = f"http://{address}:80/ask?http://{OUTSIDE}:8000/"
        command = f"nsenter --net=/var/run/netns/{one.name} curl -sS --fail --max-time 20 {url}"

        def seen() -> str:
            return subprocess.run(command.split(), capture_output=True, text=True).stdout

        eventually("an answer", lambda: seen() == one.ip)
    finally:
        outside.kill()
        outside.wait()


class Attached:
    """A network namespace that others attach by the CNI plugin of an agent's program, on a host."""

    def __init__(self, host: Host, folder: Path, number: int) -> None:
        self.host, self.id = host, f"pod{number}"
        self.name = f"{host.name}p{number}"
        self.plugins = folder / f"{host.link}-plugins"
        self.plugins.mkdir(exist_ok=True)
        plugin = self.plugins / "dcos-overlay"
        if not plugin.is_symlink():
            plugin.symlink_to(binary("dcos-agent"))
        self.network = {"cniVersion": "1.0.0", "name": "pods", "type": "dcos-overlay", "overlay": "dcos",
                        "configurations": str(folder / host.link / "overlay" / "cni")}
        self.result: dict = {}
        run(f"ip netns add {self.name}")

    def call(self, command: str, **more: object) -> tuple[int, dict]:
        environment = {
            **os.environ, "CNI_COMMAND": command, "CNI_CONTAINERID": self.id, "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/var/run/netns/{self.name}", "CNI_PATH": f"{self.plugins}:{PLUGINS}",
        }
        words = ["nsenter", f"--net=/var/run/netns/{self.host.name}", self.plugins / "dcos-overlay"]
        done = subprocess.run(words, input=json.dumps({**self.network, **more}), env=environment, capture_output=True,
                              text=True, timeout=180, check=False)
        return done.returncode, json.loads(done.stdout or "{}")

    def add(self) -> str:
        code, self.result = self.call("ADD")
        assert code == 0, self.result
        return self.result["ips"][0]["address"].split("/")[0]

    def ask(self, url: str) -> str:
        return said(f"nsenter --net=/var/run/netns/{self.name} curl -sS --fail --max-time 20 {url}")

    def remove(self) -> None:
        run(f"ip netns del {self.name}")


def test_others_attach_their_containers_by_cni(overlays, tmp_path):
    one, two = overlays.join(2), overlays.join(3)
    eventually("ways", lambda: (one.ways(), two.ways()) == ({two.ip}, {one.ip}))
    overlays.run(2)
    taken = overlays.addresses()
    pods = [Attached(one, overlays.folder, number) for number in range(3)]
    try:
        code, told = pods[0].call("VERSION")
        assert code == 0 and "1.0.0" in told["supportedVersions"]
        code, told = pods[0].call("ADD", overlay="red")
        assert (code, told["code"]) == (1, 11), "a network this node has not, or not yet"
        addresses = [pod.add() for pod in pods]
        # Of this node's part, and nobody's who is there.
        assert all(address.startswith("9.0.0.") for address in addresses), addresses
        assert len({*addresses, *taken.values()}) == 5
        for pod in pods:
            assert pod.call("CHECK", prevResult=pod.result) == (0, {})
            # Containers of Marathon, on this host and on the other.
            for task, address in taken.items():
                assert pod.ask(f"http://{address}:80/") == task
        # The other way round: who is attached is reached from the other host, by its own address.
        script = f"import http.server as s; s.test(s.SimpleHTTPRequestHandler, port=80, bind='{addresses[1]}')"
        server = subprocess.Popen(
            ["nsenter", f"--net=/var/run/netns/{pods[1].name}", sys.executable, "-c", script], cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        overlays.watchers.append(server)
        (tmp_path / "word").write_text("from a pod")
        ask = f"nsenter --net=/var/run/netns/{two.name} curl -sS --fail --max-time 20 http://{addresses[1]}/word"
        eventually("an answer", lambda: subprocess.run(
            ask.split(), capture_output=True, text=True, check=False).stdout == "from a pod")

        # The agent is away: that keeps nobody waiting. What is given back is free for others.
        overlays.agents[2].kill()
        assert pods[0].call("DEL", prevResult=pods[0].result) == (0, {})
        assert pods[0].call("DEL") == (0, {})
        assert "eth0" not in said(f"ip -n {pods[0].name} -br link")
        assert pods[0].call("CHECK", prevResult=pods[0].result)[1]["code"] == 3
        again = pods[0].add()
        assert again not in {*addresses[1:], *taken.values()}
        eventually("the master's notice of its end", lambda: one.ip not in overlays.active())
        overlays.agents[2].start()
        eventually("its return", lambda: one.ip in overlays.active())
        # Its own next containers take none of theirs.
        overlays.run(2)
        assert not {again, *addresses[1:]} & set(overlays.addresses().values())
        assert pods[1].call("CHECK", prevResult=pods[1].result) == (0, {})
        for pod in pods:
            assert pod.call("DEL", prevResult=pod.result) == (0, {})
        leases = overlays.folder / f"{one.link}-run" / "cni" / "networks" / "dcos"
        assert {lease.name for lease in leases.glob("9.*")} == {address for address in overlays.addresses().values()
                                                               if address.startswith("9.0.0.")}
    finally:
        for pod in pods:
            pod.remove()
