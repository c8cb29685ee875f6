"""Nodes that tell each other who is there: a master and two agents, with and without the master."""

import base64
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from cluster import Cluster, Program, binary, eventually, free_port, get


class Gossip:
    """A cluster whose programs take part, and a second agent."""

    def __init__(self) -> None:
        self.ports = {name: free_port() for name in ("master", "agent", "second")}
        self.nets = {name: free_port() for name in self.ports}
        self.addresses = {"master": "127.0.0.1", "agent": "127.0.0.1", "second": "127.0.0.2"}
        self.cluster = Cluster()
        self.key = self.cluster.folder / "gossip.key"
        self.key.touch(mode=0o600)
        self.key.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
        self.cluster.master_program.flags.update(self.flags("master"))
        agent = self.cluster.agent_program
        agent.flags.update(self.flags("agent"))
        self.second_port = free_port()
        folder = self.cluster.folder / "second"
        self.second = Program("dcos-agent", {
            **agent.flags, **self.flags("second"), "ip": "127.0.0.2", "hostname": "second", "port": self.second_port,
            "work_dir": folder / "work", "runtime_dir": folder / "run", "gossip_public_ips": "192.0.2.2",
            "attributes": "rack:r2",
        }, self.cluster.folder / "second.log", agent.env)

    def flags(self, name: str) -> dict:
        # Nodes of a cluster have one port for it; here they share an address.
        join = [f"{self.addresses[other]}:{port}" for other, port in self.ports.items()]
        return {
            "gossip_key": self.key, "gossip_port": self.ports[name], "gossip_join": ",".join(join),
            "net_port": self.nets[name],
        }

    def __enter__(self) -> "Gossip":
        self.cluster.__enter__()
        self.second.start()
        return self

    def __exit__(self, *failed: object) -> None:
        # What was killed left its launcher behind: one that signs off ends it.
        if not self.second.running():
            self.second.start()
            eventually("the second agent", lambda: get(f"http://127.0.0.2:{self.second_port}/state"))
        self.second.stop(signal.SIGUSR1)
        self.cluster.__exit__(*failed)

    def members(self, name: str) -> dict[str, dict]:
        """Who is there, as one of them says on loopback."""
        names = {f"{self.addresses[name]}:{port}": name for name, port in self.ports.items()}
        told = get(f"http://127.0.0.1:{self.nets[name]}/v1/members")
        return {names[member["address"]]: member for member in told}

    def sees(self, by: str, **wanted: str) -> None:
        def does() -> bool:
            members = self.members(by)
            return {name: members[name]["presence"] for name in wanted} == wanted
        eventually(f"{by} sees {wanted}", does)


def command(*arguments: str) -> str:
    return subprocess.run([binary("dcos"), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def gossip():
    with Gossip() as gossip:
        yield gossip


def test_who_is_there_is_known_with_and_without_a_master(gossip: Gossip) -> None:
    for by in gossip.ports:
        gossip.sees(by, master="alive", agent="alive", second="alive")
        eventually("what all say", lambda by=by: all(member["kind"] for member in gossip.members(by).values()))
    second = gossip.members("agent")["second"]
    assert (second["kind"], second["hostname"], second["attributes"]) == ("agent", "second", {"rack": "r2"})
    # As dcos-net tells nodes.
    nodes = {node["private_ip"]: node for node in get(f"http://127.0.0.1:{gossip.nets['master']}/v1/nodes")}
    assert set(nodes["127.0.0.2"]) == {"private_ip", "public_ips", "hostname", "updated"}
    assert nodes["127.0.0.2"]["public_ips"] == ["192.0.2.2"]
    assert set(nodes) == {"127.0.0.1", "127.0.0.2"}
    # From the master, where people ask.
    def presences() -> list[str]:
        told = json.loads(command("--master", gossip.cluster.master, "--json", "net", "members"))
        return [member["presence"] for member in told]

    # One that is slow to answer is suspected for a while.
    eventually("all alive", lambda: presences() == ["alive"] * 3)

    gossip.cluster.master_program.kill()
    gossip.sees("second", master="dead", agent="alive", second="alive")
    told = command("net", "members", "--node", f"127.0.0.2:{gossip.second_port}")
    assert "dead" in told and "second" in told

    # An agent that ends in order is expected back; its tasks run on.
    gossip.cluster.agent_program.stop(signal.SIGTERM)
    gossip.sees("second", agent="left")
    gossip.cluster.agent_program.start()
    gossip.sees("second", agent="alive")
    # One that is gone is dead.
    gossip.second.kill()
    gossip.sees("agent", second="dead")
    gossip.cluster.master_program.start()
    gossip.sees("agent", master="alive", second="dead")
    gossip.sees("master", agent="alive", second="dead")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")
def test_loopback_is_refused_as_an_address_for_others(tmp_path: Path) -> None:
    key = tmp_path / "gossip.key"
    key.touch(mode=0o600)
    key.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    ended = subprocess.run(
        # A host with no network yet, whose name says nothing.
        ["unshare", "--net", "--uts", "sh", "-c", 'hostname nowhere.invalid; ip link set lo up; exec "$0" "$@"',
         binary("dcos-master"), "--ip=0.0.0.0", f"--port={free_port()}", f"--work_dir={tmp_path / 'work'}",
         f"--gossip_key={key}"],
        check=False, capture_output=True, text=True, timeout=180,
    )
    assert ended.returncode != 0
    assert "--gossip_key" in ended.stderr and "--advertise_ip" in ended.stderr
