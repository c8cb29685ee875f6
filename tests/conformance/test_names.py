"""Names of a cluster with three masters: all answer alike. Needs Debian's `zookeeper` and `dig`."""

import shutil
import subprocess

import pytest
from cluster import eventually
from test_zookeeper import JAR, Ensemble

IPS = ("127.0.0.3", "127.0.0.1", "127.0.0.2")

pytestmark = [
    pytest.mark.skipif(not JAR.exists(), reason="Debian's package zookeeper is not installed"),
    pytest.mark.skipif(not shutil.which("dig"), reason="there is no dig"),
]


def look_up(server: str, port: int, name: str) -> list[str]:
    command = ["dig", "+short", "+time=2", "+tries=1", "-p", str(port), f"@{server}", name]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    # What goes wrong is told in comments.
    return sorted(line for line in lines if not line.startswith(";"))


def test_all_masters_tell_of_all_masters_alike():
    names = ["master.mesos", "master.dcos.thisdcos.directory", *(f"master{n}.mesos" for n in range(4)),
             *(f"zk-{n}.zk" for n in range(1, 6)), "leader.mesos"]
    with Ensemble(agents=0, components="master,dns", ips=IPS) as ensemble:
        servers = dict(zip(IPS, ensemble.ports, strict=True))

        def told(ip: str) -> list[list[str]]:
            return [look_up(ip, ensemble.dns[servers[ip]], name) for name in names]

        def as_it_should_be(masters: list[str]) -> list[list[str]]:
            leads = ensemble.leader()["port"]
            # Between two leaders nothing is as it should be.
            leader = [ip for ip, port in servers.items() if port == leads] or None
            each = [[ip] for ip in masters]
            return [masters, masters, *(each + [[]] * 4)[:4], *(each * 5)[:5], leader]

        masters = sorted(IPS)
        for ip in IPS:
            eventually(f"{ip} knows all", lambda ip=ip: told(ip) == as_it_should_be(masters))
        # Another one leads: who is called what stays, but for the one that is gone.
        leader = as_it_should_be(masters)[-1][0]
        ensemble.masters[IPS.index(leader)].kill()
        left = [ip for ip in masters if ip != leader]
        for ip in left:
            eventually(f"{ip} knows the others", lambda ip=ip: told(ip) == as_it_should_be(left))
