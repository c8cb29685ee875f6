"""Names on an agent: answered at the addresses of DC/OS, also while no master is. Needs root and `dig`."""

import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.request

import pytest
from cluster import Cluster, binary, eventually, free_port, get
from own_network import ADDRESS, own_network, run

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a link takes root"),
    pytest.mark.skipif(not shutil.which("dig"), reason="there is no dig"),
]

SERVERS = ("198.51.100.1", "198.51.100.2", "198.51.100.3", "fd01:d::c633:6401")
APP = {
    "id": "/group/web", "cmd": "exec sleep 1000", "cpus": 0.1, "mem": 16, "instances": 1,
    "portDefinitions": [{"port": 0, "name": "http", "labels": {"VIP_0": "/web:80"}}],
}
NAMES = ("web-group.marathon.mesos", "web.marathon.l4lb.thisdcos.directory", "master.mesos", "marathon.mesos",
         "web-group.marathon.agentip.dcos.thisdcos.directory")


def look_up(name: str, server: str = SERVERS[0], *more: str) -> list[str]:
    command = ["dig", "+short", "+time=5", "+tries=1", *more, f"@{server}", name]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    # What goes wrong is told in comments.
    return sorted(line for line in lines if not line.startswith(";"))


def reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def send(method: str, url: str, body: object = None) -> None:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60).close()


def name_server_of_others() -> int:
    """A name server that says 192.0.2.77 to all; its port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            query, client = server.recvfrom(512)
            question = query[12:query.index(b"\0", 12) + 5]
            record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + bytes([192, 0, 2, 77])
            server.sendto(query[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + question + record, client)

    threading.Thread(target=answer, daemon=True).start()
    return server.getsockname()[1]


def test_zones_of_others_are_forwarded_and_a_killed_agent_leaves_no_host_without_names(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.53\n")
    flags = {"dns": "true", "dns_resolvers": "192.0.2.53,127.0.0.1:9", "dns_resolv_conf": file, "ip": ADDRESS,
             "hostname": ADDRESS, "launcher": "posix", "isolation": "posix/cpu,posix/mem"}
    with own_network():
        others = [["127.0.0.1", name_server_of_others()]]
        flags["dns_forward_zones"] = json.dumps({"corp.example": others, reverse(ADDRESS).partition(".")[2]: others})
        with Cluster(agent_flags=flags) as cluster:
            eventually("the name", lambda: look_up("slave.mesos") == [ADDRESS])
            assert look_up("www.corp.example") == ["192.0.2.77"]
            # A node's address is its operator's to name.
            assert look_up(reverse(ADDRESS)) == ["192.0.2.77"]
            get_metrics = urllib.request.urlopen("http://127.0.0.1:62080/v1/metrics/dns", timeout=60)
            assert 'forwarder_requests_duration_seconds_count{zone="corp.example."} 1\n' in get_metrics.read().decode()

            def asked() -> list[str]:
                lines = file.read_text().splitlines()
                return [line.split()[1] for line in lines if line.startswith("nameserver")]

            # Names are answered a moment before the node is told to ask here.
            eventually("its file", lambda: asked() == list(SERVERS[:3]))
            agent = cluster.agent_program
            agent.kill()
            assert asked() == list(SERVERS[:3]), "nobody put it back"
            flags = [f"--{key}={value}" for key, value in agent.flags.items()]
            leave = [binary("dcos-agent"), *flags, "--dns_resolv_conf_leave"]
            subprocess.run(leave, check=True, capture_output=True)
            assert asked() == ["192.0.2.53"]
            agent.start()
            eventually("the agent's own", lambda: asked() == list(SERVERS[:3]))
        assert asked() == ["192.0.2.53"], "it stopped in order"


def test_names_are_answered_on_the_agent_while_every_master_is_dead():
    flags = {"dns": "true", "dns_resolvers": "127.0.0.1:9", "ip": ADDRESS, "hostname": ADDRESS,
             "launcher": "posix", "isolation": "posix/cpu,posix/mem"}
    with own_network(), Cluster(agent_flags=flags) as cluster:
        eventually("Marathon's answer", lambda: get(f"{cluster.marathon}/v2/info"))
        send("POST", f"{cluster.marathon}/v2/apps", APP)

        def all_of_them() -> dict[str, list[str]] | None:
            found = {name: look_up(name) for name in NAMES}
            return found if all(found.values()) else None

        names = eventually("all names", all_of_them)
        assert names[NAMES[0]] == [ADDRESS], names
        assert names["master.mesos"] == names["marathon.mesos"] == ["127.0.0.1"], names
        # Of the address of a VIP, too.
        (vip,) = names[NAMES[1]]
        assert look_up(reverse(vip), SERVERS[0], "-t", "PTR") == [f"{NAMES[1]}."]
        # At all addresses, over UDP and TCP.
        assert all(look_up(NAMES[0], server, *how) == [ADDRESS] for server in SERVERS for how in ((), ("+tcp",)))

        def are_there() -> bool:
            return {name: look_up(name) for name in NAMES} == names

        # What is kept is written in the order in which it was told: with what comes later it has that the first one runs.
        send("POST", f"{cluster.marathon}/v2/apps", {**APP, "id": "/later", "portDefinitions": []})
        memory = cluster.folder / "agent/names/state"
        eventually("what is kept", lambda: b"later.instance-" in memory.read_bytes())
        cluster.master_program.kill()
        assert are_there()
        cluster.agent_program.kill()
        assert not look_up(NAMES[0])
        cluster.agent_program.start()
        eventually("the names after a restart, without a master", are_there)
        # Led to another cluster it knows none of them, and says why; led back it does.
        agent = cluster.agent_program
        master = agent.flags["master"]
        agent.kill()
        agent.flags["master"] = f"127.0.0.1:{free_port()}"
        agent.start()
        eventually("the reason", lambda: "it is of another cluster" in agent.log.read_text())
        # Of its own it knows before it leads to anybody else.
        eventually("its own name", lambda: look_up("ready.spartan"))
        assert not look_up(NAMES[0])
        agent.kill()
        agent.flags["master"] = master
        agent.start()
        eventually("the names, back again", are_there)
        # Somebody takes an address away.
        link = socket.if_nametoindex("spartan")
        run("ip link del spartan")
        eventually("the addresses are back", are_there)
        # It may be back before anybody finds it gone.
        assert socket.if_nametoindex("spartan") != link

        cluster.master_program.start()
        eventually("the agent's return", lambda: [agent for agent in cluster.agents() if agent["active"]])
        eventually("Marathon's answer", lambda: get(f"{cluster.marathon}/v2/info"))
        assert are_there()
        eventually("one task", lambda: len(get(f"{cluster.marathon}/v2/apps/group/web/tasks")["tasks"]) == 1)
        send("DELETE", f"{cluster.marathon}/v2/apps/group/web?force=true")
        eventually("the name's end", lambda: not look_up(NAMES[0]))
