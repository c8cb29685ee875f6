"""Names on a master, at the addresses of DC/OS as on agents. Needs root and `dig`."""

import os
import shutil
import signal
import socket
import subprocess

import pytest
from cluster import Cluster, binary, eventually, free_port
from own_network import ADDRESS, own_network
from test_agent_names import SERVERS, look_up

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a link takes root"),
    pytest.mark.skipif(not shutil.which("dig"), reason="there is no dig"),
]
AGENT = {"launcher": "posix", "isolation": "posix/cpu,posix/mem"}


def test_a_master_answers_on_its_node_as_an_agent_does(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.53\n")
    flags = {"dns": "true", "dns_resolvers": "192.0.2.53,127.0.0.1:9", "dns_resolv_conf": file}

    def asked() -> list[str]:
        lines = file.read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith("nameserver")]

    with own_network(), Cluster(agent_flags=AGENT, master_flags=flags) as cluster:
        master, agent = cluster.master_program, cluster.agent_program
        eventually("the name", lambda: look_up("leader.mesos") == ["127.0.0.1"])
        assert all(look_up("leader.mesos", server, *how) == ["127.0.0.1"] for server in SERVERS for how in ((), ("+tcp",)))
        # Where it was before, too.
        assert look_up("leader.mesos", "127.0.0.1", "-p", str(cluster.dns_port)) == ["127.0.0.1"]
        eventually("its file", lambda: asked() == list(SERVERS[:3]))
        # An agent of the same node leaves it to the master.
        agent.stop(signal.SIGTERM)
        agent.flags |= {"dns": "true", "dns_resolvers": "192.0.2.53"}
        agent.start()
        eventually("the agent's word", lambda: "leaving it to that one" in agent.log.read_text())
        assert look_up("leader.mesos") == ["127.0.0.1"]
        # Nor does it take back the master's file when it ends.
        flags = (agent.flags | {"dns_resolv_conf": file}).items()
        leave = [binary("dcos-agent"), *(f"--{key}={value}" for key, value in flags), "--dns_resolv_conf_leave"]
        subprocess.run(leave, check=True, capture_output=True)
        assert asked() == list(SERVERS[:3])
        # Until that one has ended: the agent knows the names as well.
        master.kill()
        eventually("the agent's answer", lambda: look_up("leader.mesos") == ["127.0.0.1"])
        assert all(look_up("leader.mesos", server, *how) == ["127.0.0.1"] for server in SERVERS for how in ((), ("+tcp",)))
        assert agent.log.read_text().count("leaving it to that one") == 1, "it is said once"
        agent.kill()
        assert not look_up("leader.mesos")
        assert asked() == list(SERVERS[:3]), "nobody put it back"
        leave = [binary("dcos-master"), *(f"--{key}={value}" for key, value in master.flags.items()), "--dns_resolv_conf_leave"]
        subprocess.run(leave, check=True, capture_output=True)
        assert asked() == ["192.0.2.53"]
        master.start()
        eventually("the master's own", lambda: asked() == list(SERVERS[:3]) and look_up("leader.mesos") == ["127.0.0.1"])
        agent.start()
    assert asked() == ["192.0.2.53"], "it stopped in order"


def test_a_master_is_told_what_keeps_it_from_answering_there(tmp_path):
    def refusal(*flags: str) -> str:
        ports = [f"--{name}={free_port()}" for name in ("port", "marathon_port", "metronome_port", "mesos_dns_port")]
        command = [binary("dcos-master"), f"--work_dir={tmp_path}", *ports, "--dns", *flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert ended.returncode != 0
        return ended.stdout + ended.stderr

    with own_network():
        everywhere = ("--ip=0.0.0.0", f"--advertise_ip={ADDRESS}", "--dns_resolvers=192.0.2.53")
        assert "leaves no room for 198.51.100.1" in refusal(*everywhere, "--dns_port=53")
        assert "would answer nothing about other names" in refusal("--ip=127.0.0.1", "--dns_resolvers=198.51.100.1")
        assert "let it run dns, too" in refusal("--ip=127.0.0.1", "--only=master")
        nobody = refusal("--ip=127.0.0.1", "--dns_resolvers=192.0.2.53:5353", f"--dns_resolv_conf={tmp_path}/resolv.conf")
        assert "at port 53 alone" in nobody
        assert "spartan" not in [name for _, name in socket.if_nameindex()], "whoever is refused has changed nothing"
