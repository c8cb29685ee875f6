"""Masters and agents started by the units of DC/OS: its environment, unchanged.

The names and values are those of DC/OS 2.1 (`gen/dcos-config.yaml`), but for paths, ZooKeeper, and what takes root.
"""

import json
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import Program, binary, eventually, free_port, get
from test_executor_sockets import ask

MASTER = {
    "MESOS_IP_DISCOVERY_COMMAND": "echo 127.0.0.1",
    "MESOS_FAIR_SHARING_EXCLUDED_RESOURCE_NAMES": "gpus",
    "MESOS_FILTER_GPU_RESOURCES": "true",
    "MESOS_FRAMEWORK_SORTER": "random",
    "MESOS_HOSTNAME_LOOKUP": "false",
    "MESOS_MAX_SLAVE_PING_TIMEOUTS": "20",
    "MESOS_MIN_ALLOCATABLE_RESOURCES": "cpus:0.01;mem:32;ports:1",
    "MESOS_MEMORY_PROFILING": "true",
    "MESOS_MODULES_DIR": "/opt/mesosphere/etc/mesos-master-modules",
    "MESOS_OFFER_TIMEOUT": "2mins",
    "MESOS_QUORUM": "1",
    "MESOS_REGISTRY_STORE_TIMEOUT": "60secs",
    "MESOS_REGISTRY_FETCH_TIMEOUT": "60secs",
    "MESOS_REGISTRY_STRICT": "false",
    "MESOS_ROLE_SORTER": "random",
    "MESOS_SLAVE_REMOVAL_RATE_LIMIT": "100/1mins",
    "MESOS_WEIGHTS": "slave_public=1",
    "MESOS_MAX_COMPLETED_FRAMEWORKS": "50",
    "MESOS_MAX_COMPLETED_TASKS_PER_FRAMEWORK": "1000",
    "MESOS_CLUSTER": "units",
    "GLOG_drop_log_memory": "false",
    "LIBPROCESS_NUM_WORKER_THREADS": "16",
    "SASL_PATH": "/opt/mesosphere/lib/sasl2",
}
AGENT = {
    "MESOS_IP_DISCOVERY_COMMAND": "echo 127.0.0.1",
    "MESOS_CGROUPS_ENABLE_CFS": "true",
    "MESOS_CGROUPS_LIMIT_SWAP": "false",
    "MESOS_CONTAINER_LOGGER": "com_mesosphere_mesos_JournaldLogger",
    "MESOS_DISALLOW_SHARING_AGENT_PID_NAMESPACE": "true",
    "MESOS_DISALLOW_SHARING_AGENT_IPC_NAMESPACE": "false",
    "MESOS_DOCKER_REMOVE_DELAY": "1hrs",
    "MESOS_DOCKER_STOP_TIMEOUT": "20secs",
    "MESOS_DOCKER_VOLUME_CHOWN": "false",
    "MESOS_EXECUTOR_REGISTRATION_TIMEOUT": "10mins",
    "MESOS_EXECUTOR_REREGISTRATION_TIMEOUT": "10secs",
    "MESOS_GC_DELAY": "2days",
    "MESOS_GC_NON_EXECUTOR_CONTAINER_SANDBOXES": "true",
    "MESOS_HOSTNAME_LOOKUP": "false",
    "MESOS_HTTP_COMMAND_EXECUTOR": "true",
    "MESOS_HTTP_EXECUTOR_DOMAIN_SOCKETS": "true",
    "MESOS_DOMAIN_SOCKET_LOCATION": "systemd:dcos-mesos-slave",
    "MESOS_IMAGE_PROVIDERS": "docker",
    "MESOS_LAUNCHER_DIR": "/opt/mesosphere/active/mesos/libexec/mesos",
    "MESOS_MEMORY_PROFILING": "true",
    "MESOS_MODULES_DIR": "/opt/mesosphere/etc/mesos-slave-modules",
    "MESOS_NETWORK_CNI_ROOT_DIR_PERSIST": "true",
    "MESOS_RECONFIGURATION_POLICY": "additive",
    "MESOS_RECOVERY_TIMEOUT": "24hrs",
    "MESOS_SLAVE_SUBSYSTEMS": "cpu,memory",
    "MESOS_DEFAULT_ROLE": "slave_public",
    "MESOS_ATTRIBUTES": "public_ip:true",
    "MESOS_RESOURCES": json.dumps([
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 21}, {"begin": 23, "end": 5050}]}}]),
    "GLOG_drop_log_memory": "false",
}


class Units:
    """A master and an agent, started by their environment."""

    def __init__(self, master: dict[str, str] | None = None, agent: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
        self.port, self.agent_port = free_port(), free_port()
        self.url, self.agent_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.agent_port}"
        self.master = Program("dcos-master", {"only": "master"}, self.folder / "master.log", {
            "MESOS_WORK_DIR": str(self.folder / "master"), "MESOS_PORT": str(self.port), **MASTER, **(master or {})})
        self.agent = Program("dcos-agent", {"launcher": "posix"}, self.folder / "agent.log", {
            "MESOS_WORK_DIR": str(self.folder / "agent"), "MESOS_PORT": str(self.agent_port),
            "MESOS_RUNTIME_DIR": str(self.folder / "run"), "MESOS_MASTER": f"127.0.0.1:{self.port}",
            "MESOS_ISOLATION": "posix/cpu,posix/mem", "MESOS_DOCKER_STORE_DIR": str(self.folder / "store"),
            "MESOS_EXTERNAL_LOG_FILE": str(self.folder / "agent.log"), **AGENT, **(agent or {})})
        self.agent.passed = ("dcos-mesos-slave", self.folder / "executors.sock")

    def __enter__(self) -> "Units":
        self.master.start()
        self.agent.start()
        try:
            self.registered = eventually("a registration", lambda: get(f"{self.url}/slaves")["slaves"])[0]
        except AssertionError:
            print(self.master.log.read_text(), self.agent.log.read_text())
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Signed off, an agent ends its launcher, too.
        self.agent.stop(signal.SIGUSR1)
        self.master.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def status(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_units_of_dcos_start_and_say_what_they_do_not_use():
    with Units() as units:
        state = get(f"{units.url}/state")
        assert state["pid"] == f"master@127.0.0.1:{units.port}"
        assert state["cluster"] == "units"
        flags = get(f"{units.url}/flags")["flags"]
        assert flags["max_agent_ping_timeouts"] == "20"
        assert flags["agent_removal_rate_limit"] == "100/1mins"
        assert flags["registry_store_timeout"] == "60secs"
        assert units.registered["hostname"] == "127.0.0.1", "hostname_lookup is off"
        assert units.registered["pid"] == f"slave(1)@127.0.0.1:{units.agent_port}"
        assert units.registered["attributes"] == {"public_ip": "true"}
        for program, names in ((units.master, ("modules_dir", "memory_profiling")),
                               (units.agent, ("modules_dir", "launcher_dir", "slave_subsystems"))):
            log = program.log.read_text()
            for name in names:
                assert any(name in line and "not used here" in line for line in log.splitlines()), (name, log)
        # The socket that systemd passes is the one executors are told of.
        assert "executors.sock" in units.agent.log.read_text()
        health = ask(units.folder / "executors.sock", "POST", "/slave(1)/api/v1", '{"type": "GET_HEALTH"}')
        assert health[0] == 200, health


@pytest.mark.parametrize(("program", "name", "value", "said"), [
    ("dcos-master", "MESOS_HOOKS", "com_mesosphere_dcos_Hook", "hooks (environment): is not there: "),
    ("dcos-master", "MESOS_ALLOCATOR", "org_example_Allocator", "allocator (environment): can only be hierarchical"),
    ("dcos-master", "MESOS_AUTHENTICATORS", "com_example_Authenticator", "authenticators (environment): expected one of"),
    ("dcos-master", "MESOS_FIREWALL_RULES", '{"allow": []}', "--firewall_rules: there is no rule `allow`"),
    ("dcos-master", "MESOS_IP", "127.0.0.1", "only one of --ip and --ip_discovery_command can be given"),
    ("dcos-master", "MESOS_IP_DISCOVERY_COMMAND", "echo nowhere; exit 1", "it ended with exit status: 1"),
    ("dcos-master", "MESOS_WHITELIST", "/no/such/file", "reading the whitelist /no/such/file"),
    ("dcos-agent", "MESOS_HOOKS", "com_mesosphere_dcos_RemoverHook", "hooks (environment): is not there: "),
    ("dcos-agent", "MESOS_SECRET_RESOLVER", "com_example_Secrets", "secret_resolver (environment): is not there: "),
    ("dcos-agent", "MESOS_ISOLATION", "posix/cpu,com_mesosphere_dcos_MetricsIsolatorModule", "unknown isolator"),
])
def test_what_would_open_something_stops_the_start(program, name, value, said):
    units = Units(master={name: value}, agent={name: value})
    chosen = units.master if program == "dcos-master" else units.agent
    try:
        chosen.start()
        assert chosen.process.wait(120) != 0
        assert said in chosen.log.read_text()
    finally:
        chosen.stop()
        shutil.rmtree(units.folder, ignore_errors=True)


def test_closed_endpoints_answer_nobody():
    rules = json.dumps({"disabled_endpoints": {"paths": ["/files/browse", "/master/state", "/slave(1)/state"]}})
    with Units(master={"MESOS_FIREWALL_RULES": rules}, agent={"MESOS_FIREWALL_RULES": rules}) as units:
        for url, closed, open_ in ((units.url, ["/files/browse?path=/master/log", "/master/state"], ["/state", "/health"]),
                                   (units.agent_url, ["/files/browse?path=/slave/log", "/slave(1)/state"], ["/state"])):
            for path in closed:
                assert status(url + path) == (403, f"Endpoint '{path.split('?')[0]}' is disabled")
            for path in open_:
                assert status(url + path)[0] == 200, path


def offered_to(units: Units) -> int:
    return get(f"{units.url}/metrics/snapshot")["master/offers_sent"]


def why(units: Units) -> str:
    framework = get(f"{units.url}/frameworks")["frameworks"][0]["id"]
    answer = get(f"{units.url}/allocator/explain?framework_id={framework}")
    return answer["explanations"][0]["summary"][0]["kind"]


def test_only_agents_of_the_whitelist_are_offered():
    folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
    agents = folder / "agents"
    agents.write_text("another\n")
    subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {
        "user": "nobody", "name": "whitelisted", "roles": ["slave_public"], "capabilities": [{"type": "MULTI_ROLE"}]}}}
    try:
        with Units(master={"MESOS_WHITELIST": str(agents)}) as units:
            request = urllib.request.Request(
                f"{units.url}/api/v1/scheduler", json.dumps(subscribe).encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60):
                eventually("a framework", lambda: get(f"{units.url}/frameworks")["frameworks"])
                eventually("why there is none", lambda: why(units) == "not_whitelisted")
                assert offered_to(units) == 0
                agents.write_text("another\n127.0.0.1\n")
                eventually("an offer", lambda: offered_to(units) == 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_configuration_is_checked_with_its_former_names():
    checked = subprocess.run(
        [binary("dcos-master"), "--check-config", "--work_dir=/nowhere"], env=MASTER, capture_output=True, text=True,
        timeout=180)
    assert checked.returncode == 0, checked.stderr
    assert "modules_dir (environment) is not used here: " in checked.stdout


def test_endpoints_that_are_not_there_say_why():
    with Units() as units:
        for url, paths in ((units.url, ["/help/master/state", "/registrar(1)/registry", "/profiler/start"]),
                           (units.agent_url, ["/help", "/memory-profiler/state", "/__processes__"])):
            for path in paths:
                code, text = status(url + path)
                assert code == 501 and "There is no " in text, (path, code, text)
            assert status(f"{url}/no-such-thing")[0] == 404
