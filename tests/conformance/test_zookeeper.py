"""Masters that elect their leader in ZooKeeper, as clients of the original see them: the znodes, the redirects, and
an unmodified pymesos scheduler (its detector is kazoo's) that follows the leader."""

import http.client
import json
import os
import signal
import subprocess
import tempfile
import threading
import urllib.parse
from pathlib import Path

import dcos
import pytest
from cluster import PORTS, ROOT, Program, eventually, free_port
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from pymesos import MesosSchedulerDriver
from test_pymesos import Tasks

JAR = Path("/usr/share/java/zookeeper.jar")
NETTY = [JAR.with_name(name) for name in ("netty-codec.jar", "netty-resolver.jar")]
TLS = ROOT / "dcos-core" / "wire" / "tests" / "tls"


class Ensemble:
    """One ZooKeeper server, two masters or as many as have addresses, an agent or none."""

    def __init__(self, agents: int = 1, components: str = "master", more: dict[str, str] | None = None,
                 ips: tuple[str, ...] = ("127.0.0.1", "127.0.0.1"), secure: bool = False) -> None:
        """With `secure` masters and agents speak TLS to it, with certificates on both sides."""
        self.temporary = tempfile.TemporaryDirectory(prefix="dcos-zookeeper-")
        folder = Path(self.temporary.name)
        self.port = free_port()
        settings = (
            f"tickTime=500\ndataDir={folder}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "admin.enableServer=false\n"
        )
        self.servers = f"127.0.0.1:{self.port}"
        self.url = f"zk://user:secret@{self.servers}/mesos"
        jars, files = [JAR], {}
        if secure:
            port, identity = free_port(), folder / "identity.pem"
            identity.write_bytes(b"".join((TLS / name).read_bytes() for name in ("server.key", "server.pem")))
            settings += (
                f"secureClientPort={port}\nsecureClientPortAddress=127.0.0.1\n"
                "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
                f"ssl.keyStore.location={identity}\nssl.keyStore.type=PEM\n"
                f"ssl.trustStore.location={TLS}/ca.pem\nssl.trustStore.type=PEM\n"
            )
            self.url = f"zks://user:secret@127.0.0.1:{port}/mesos"
            # Debian's manifest leaves them out.
            jars += NETTY
            files = {f"zk_{name}_file": TLS / file for name, file in (
                ("ca", "ca.pem"), ("cert", "server.pem"), ("key", "server.key"))}
        (folder / "zoo.cfg").write_text(settings)
        with (folder / "zookeeper.log").open("wb") as log:
            self.server = subprocess.Popen(
                # How long a busy disk takes is not what is tried here.
                ["java", "-Xmx128m", "-Dzookeeper.forceSync=no", "-cp", ":".join(map(str, [*jars, "/etc/zookeeper/conf"])),
                 "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(folder / "zoo.cfg")],
                stdout=log, stderr=log,
            )
        env = {"RUST_LOG": os.environ.get("RUST_LOG", "info"), **(more or {})}
        self.ports = [free_port() for _ in ips]
        self.dns = {port: free_port() for port in self.ports}
        self.marathons = {port: free_port() for port in self.ports}
        self.metronomes = {port: free_port() for port in self.ports}
        self.masters = [
            Program("dcos-master", {
                "ip": ip, "hostname": ip, "port": port, "only": components, "zk": self.url,
                "dns_port": self.dns[port], "mesos_dns_port": free_port(), "dns_resolvers": "127.0.0.1:9",
                "marathon_port": self.marathons[port], "metronome_port": self.metronomes[port],
                "quorum": 1, "zk_session_timeout": "6secs", "work_dir": folder / f"master-{port}", **files,
            }, folder / f"master-{port}.log", env)
            for ip, port in zip(ips, self.ports, strict=True)
        ]
        self.agents = [Program("dcos-agent", {
            "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": free_port(), "master": self.url,
            "work_dir": folder / "agent", "runtime_dir": folder / "run",
            "launcher": "posix", "isolation": "posix/cpu,posix/mem",
            "resources": f"cpus:4;mem:1024;disk:1000;{PORTS}", **files,
        }, folder / "agent.log", env)][:agents]

    def __enter__(self) -> "Ensemble":
        for program in (*self.masters, *self.agents):
            program.start()
        self.zookeeper = KazooClient(self.servers)
        self.zookeeper.start(timeout=180)
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        for agent in self.agents:
            agent.stop(signal.SIGUSR1)
        for master in self.masters:
            master.stop()
        self.zookeeper.stop()
        self.server.kill()
        self.server.wait()
        if failed:
            for program in (*self.masters, *self.agents):
                print(f"--- {program.log}", program.log.read_text(errors="replace")[-6000:])
        self.temporary.cleanup()

    def candidates(self) -> list[str]:
        try:
            children = self.zookeeper.get_children("/mesos")
        except NoNodeError:
            return []
        return sorted(child for child in children if child.startswith("json.info_"))

    def standing(self) -> list[str]:
        """The candidates that know of it: ZooKeeper has a node before who made it has the answer."""
        logs = [master.log.read_text(errors="replace") for master in self.masters]
        told = {line.rpartition("/")[2].strip('"') for log in logs for line in log.splitlines() if "standing for election" in line}
        return [candidate for candidate in self.candidates() if candidate in told]

    def leader(self) -> dict:
        try:
            return json.loads(self.zookeeper.get(f"/mesos/{self.candidates()[0]}")[0])
        except (IndexError, NoNodeError):
            # Between two leaders.
            return {"port": None}

    def leads(self) -> int:
        """The port of the leader, once there is one."""
        return eventually("a leader", lambda: self.leader()["port"])


def head(port: int, path: str) -> tuple[int, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status, response.getheader("Location")


@pytest.fixture(scope="module")
def ensemble():
    if not JAR.exists():
        pytest.skip("Debian's package zookeeper is not installed")
    with Ensemble() as ensemble:
        yield ensemble


def test_the_leader_is_announced_as_the_original_does(ensemble):
    eventually("two candidates", lambda: len(ensemble.candidates()) == 2)
    # What is not a candidate must be what clients ignore.
    others = set(ensemble.zookeeper.get_children("/mesos")) - set(ensemble.candidates())
    assert others <= {"log_replicas"}
    ensemble.leads()
    info = ensemble.leader()
    assert info["port"] in ensemble.ports and info["pid"] == f"master@127.0.0.1:{info['port']}"
    assert info["ip"] == 16777343 and info["hostname"] == "127.0.0.1" and info["version"] == "1.11.0"
    assert info["address"] == {"hostname": "127.0.0.1", "ip": "127.0.0.1", "port": info["port"]}
    acls = ensemble.zookeeper.get_acls(f"/mesos/{ensemble.candidates()[0]}")[0]
    assert {(acl.id.scheme, acl.perms) for acl in acls} == {("world", 1), ("digest", 31)}


def test_a_standby_redirects_what_the_original_redirects(ensemble):
    leader = ensemble.leads()
    standby = next(port for port in ensemble.ports if port != leader)
    eventually("the leader serves", lambda: head(leader, "/state")[0] == 200)
    # Until it has read who leads, a standby answers 503, as the original does.
    eventually("the standby knows the leader", lambda: head(standby, "/state")[0] != 503)
    for path in ("/state", "/master/state?jsonp=f", "/slaves", "/api/v1", "/api/v1/scheduler", "/master/frameworks"):
        assert head(standby, path) == (307, f"//127.0.0.1:{leader}{path}")
    for path in ("/redirect", "/master/redirect"):
        assert head(standby, path) == (307, f"//127.0.0.1:{leader}")
    for path in ("/health", "/flags", "/version", "/metrics/snapshot", "/metrics"):
        assert head(standby, path)[0] == 200
    assert urllib.parse.urlsplit(head(leader, "/redirect")[1]).netloc == f"127.0.0.1:{leader}"


class Long(Tasks):
    """Tasks that go on; what is told of them is kept."""

    def __init__(self, count: int) -> None:
        super().__init__(count, "sleep 1000")
        self.registrations: list[str] = []

    def registered(self, driver, framework_id, master_info):
        super().registered(driver, framework_id, master_info)
        self.registrations.append(framework_id["value"])

    def reregistered(self, driver, master_info):
        self.registrations.append(self.registered_as)


def test_pymesos_follows_the_leader(ensemble):
    follow_the_leader(ensemble)


def follow_the_leader(ensemble: Ensemble) -> None:
    """A pymesos framework has two tasks; the leader is killed; they go on, and the next leader launches a third."""
    scheduler = Long(2)
    framework = {"user": "root", "name": "follower", "checkpoint": True, "failover_timeout": 3600}
    driver = MesosSchedulerDriver(
        scheduler, framework, f"zk://{ensemble.servers}/mesos", implicit_acknowledgements=False
    )
    driver.start()
    try:
        running = lambda: [task for task, states in scheduler.updates.items() if states[-1] == "TASK_RUNNING"]  # noqa: E731
        eventually("two tasks run", lambda: len(running()) == 2)
        leader = ensemble.leads()
        ensemble.masters[ensemble.ports.index(leader)].kill()
        eventually("the other one leads", lambda: ensemble.leader()["port"] not in (None, leader))
        eventually("pymesos is subscribed again", lambda: len(scheduler.registrations) >= 2)
        assert len(set(scheduler.registrations)) == 1
        scheduler.waiting.append("after")
        driver.reviveOffers()
        eventually("a task of the new leader runs", lambda: "after" in running())
        assert not scheduler.terminal and not scheduler.errors
    finally:
        driver.stop()
        driver.join()


class Watcher(dcos.Scheduler):
    """Counts how often it was subscribed, and as whom."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def subscribed(self, driver, framework_id):
        self.ids.append(framework_id)


def test_our_python_follows_the_leader(ensemble):
    for master in ensemble.masters:
        if not master.running():
            master.start()
    eventually("two candidates", lambda: len(ensemble.candidates()) == 2)
    cluster = dcos.connect(ensemble.url)
    assert "secret" not in repr(cluster)
    watcher = Watcher()
    with dcos.SchedulerDriver(watcher, ensemble.url, name="watcher", failover_timeout=3600) as driver:
        threading.Thread(target=driver.run, daemon=True).start()
        eventually("it is subscribed", lambda: len(watcher.ids) == 1)
        leader = ensemble.leads()
        eventually("the agent", cluster.agents)
        ensemble.masters[ensemble.ports.index(leader)].kill()
        eventually("the other one leads", lambda: ensemble.leader()["port"] not in (None, leader))
        eventually("it is subscribed again", lambda: len(watcher.ids) >= 2)
        assert len(set(watcher.ids)) == 1
        eventually("the agent registered again", cluster.agents)
