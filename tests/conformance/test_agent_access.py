"""What agents show to whom: ours, and an original that was given the same credentials and rules.

Two frameworks, of the users `root` and `nobody`, run a task on each agent. A guest may see what is nobody's.
"""

import base64
import json
import shutil
import signal
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
from cluster import PORTS, Program, eventually, free_port, get
from original import AVAILABLE, Original, needed, remove
from pymesos import MesosSchedulerDriver, Scheduler

SECRETS = {"admin": "admin-secret", "guest": "guest-secret"}
GUEST, NONE = {"values": ["guest"]}, {"type": "NONE"}
# What of these belongs to `nobody` the guest may see.
BY_USER = ("view_frameworks", "view_executors", "view_tasks", "view_containers", "access_sandboxes",
           "wait_nested_containers", "kill_nested_containers", "remove_nested_containers",
           "attach_containers_output")
FORBIDDEN = {
    "access_mesos_logs": "logs", "view_flags": "flags", "set_log_level": "level", "prune_images": "images",
    "modify_resource_provider_configs": "resource_providers", "view_standalone_containers": "users",
    "mark_resource_providers_gone": "resource_providers", "view_resource_providers": "resource_providers",
}
ACLS = {
    "permissive": True,
    **{name: [{"principals": GUEST, "users": {"values": ["nobody"]}}, {"principals": GUEST, "users": NONE}]
       for name in BY_USER},
    **{name: [{"principals": GUEST, what: NONE}] for name, what in FORBIDDEN.items()},
    "get_endpoints": [{"principals": GUEST, "paths": {"values": ["/containers"]}},
                      {"principals": GUEST, "paths": NONE}],
    "view_roles": [{"principals": GUEST, "roles": NONE}],
}
RESOURCES = f"cpus(closed):1;cpus:8;mem:4096;disk:1000;{PORTS}"


def flags(folder: Path) -> dict[str, str]:
    credentials = folder / "credentials"
    credentials.write_text(json.dumps({"credentials": [
        {"principal": principal, "secret": secret} for principal, secret in SECRETS.items()]}))
    credentials.chmod(0o600)
    return {
        "http_credentials": str(credentials), "acls": json.dumps(ACLS), "switch_user": "false",
        "authenticate_http_readonly": "true", "authenticate_http_readwrite": "true",
    }


class Sleeper(Scheduler):
    """One task on each agent."""

    def __init__(self, user: str, master: str) -> None:
        self.user, self.running = user, set()
        self.driver = MesosSchedulerDriver(self, {"user": user, "name": user}, master)
        self.lock = threading.Lock()

    def resourceOffers(self, driver, offers):
        for offer in offers:
            agent = offer["agent_id"]["value"]
            with self.lock:
                tasks = [] if agent in self.running else [{
                    "task_id": {"value": f"{self.user}-{agent}"}, "agent_id": offer["agent_id"],
                    "name": self.user, "command": {"value": "echo here; sleep 1000"}, "resources": [
                        {"name": name, "type": "SCALAR", "scalar": {"value": value}}
                        for name, value in (("cpus", 0.1), ("mem", 32.0))]}]
                self.running.add(agent)
            driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.5 if tasks else 60})


class Agent:
    """Whom to ask, as whom."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, who: str | None, path: str, call: dict | None = None) -> tuple[int, object]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if who:
            shown = base64.b64encode(f"{who}:{SECRETS.get(who, 'wrong')}".encode()).decode()
            headers["Authorization"] = f"Basic {shown}"
        data = json.dumps(call).encode() if call else None
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors="replace")

    def api(self, who: str | None, kind: str, **fields) -> tuple[int, object]:
        return self.ask(who, "/api/v1", {"type": kind, **({kind.lower(): fields} if fields else {})})


def users(found: object, key: str, user) -> list[str]:
    return sorted(user(one) for one in found.get(key, []))


def answers(agent: Agent) -> dict[str, object]:
    """Statuses, and the users of whatever is shown."""
    _, state = agent.ask("admin", "/state")
    name_of = {framework["id"]: framework["name"] for framework in state["frameworks"]}
    containers = {name_of[framework["id"]]: framework["executors"][0] for framework in state["frameworks"]}
    assert sorted(containers) == ["nobody", "root"], state
    records: dict[str, object] = {}

    def note(what: str, answer: tuple[int, object], pick=lambda found: None) -> None:
        status, found = answer
        records[what] = {"status": status, "shown": pick(found) if status == 200 and found else None}

    def by_framework(one):
        return name_of[one["framework_id"]["value"]]

    def of_state(found):
        tasks = found.get("get_tasks", found)
        return {
            "frameworks": users(found.get("get_frameworks", found), "frameworks",
                                lambda one: one["framework_info"]["name"]),
            "executors": users(found.get("get_executors", found), "executors",
                               lambda one: name_of[one["executor_info"]["framework_id"]["value"]]),
            "tasks": users(tasks, "launched_tasks", by_framework),
        }

    for who in (None, "stranger", "guest", "admin"):
        note(f"{who}: /state", agent.ask(who, "/state"), lambda found: {
            "flags": "flags" in found,
            "reserved": [sorted(found[key]) for key in ("reserved_resources", "reserved_resources_full",
                                                        "reserved_resources_allocated")],
            "frameworks": [(one["name"], len(one["executors"]), sum(len(e["tasks"]) for e in one["executors"]))
                           for one in sorted(found["frameworks"], key=lambda one: one["name"])]})
        note(f"{who}: /containers", agent.ask(who, "/containers"),
             lambda found: sorted(name_of[one["framework_id"]] for one in found))
        for path in ("/flags", "/monitor/statistics", "/health"):
            note(f"{who}: {path}", agent.ask(who, path))
        note(f"{who}: GET_STATE", agent.api(who, "GET_STATE"), lambda found: of_state(found["get_state"]))
        note(f"{who}: GET_TASKS", agent.api(who, "GET_TASKS"), lambda found: of_state(found["get_tasks"])["tasks"])
        note(f"{who}: GET_EXECUTORS", agent.api(who, "GET_EXECUTORS"),
             lambda found: of_state(found["get_executors"])["executors"])
        note(f"{who}: GET_FRAMEWORKS", agent.api(who, "GET_FRAMEWORKS"),
             lambda found: of_state(found["get_frameworks"])["frameworks"])
        note(f"{who}: GET_CONTAINERS", agent.api(who, "GET_CONTAINERS"),
             lambda found: users(found.get("get_containers", {}), "containers", by_framework))
        note(f"{who}: GET_AGENT", agent.api(who, "GET_AGENT"),
             lambda found: '"closed"' in json.dumps(found["get_agent"]["agent_info"]["resources"]))
        for kind in ("GET_HEALTH", "GET_VERSION", "GET_FLAGS", "GET_LOGGING_LEVEL", "GET_METRICS",
                     "GET_OPERATIONS", "GET_RESOURCE_PROVIDERS"):
            note(f"{who}: {kind}", agent.api(who, kind))
        note(f"{who}: SET_LOGGING_LEVEL",
             agent.api(who, "SET_LOGGING_LEVEL", level=0, duration={"nanoseconds": 1000000}))
        note(f"{who}: READ_FILE /slave/log", agent.api(who, "READ_FILE", path="/slave/log", offset=0))
        for user, executor in containers.items():
            note(f"{who}: LIST_FILES of {user}", agent.api(who, "LIST_FILES", path=executor["directory"]),
                 lambda found: len(found["list_files"].get("file_infos", [])) > 0)
            note(f"{who}: READ_FILE of {user}",
                 agent.api(who, "READ_FILE", path=f"{executor['directory']}/stdout", offset=0),
                 lambda found: b"here" in base64.b64decode(found["read_file"]["data"]))
            parent = {"value": executor["container"]}
            nested = {"parent": parent, "value": "none-of-that-name"}
            for kind in ("WAIT_NESTED_CONTAINER", "WAIT_CONTAINER", "KILL_NESTED_CONTAINER", "KILL_CONTAINER",
                         "REMOVE_NESTED_CONTAINER", "REMOVE_CONTAINER"):
                note(f"{who}: {kind} of {user}", agent.api(who, kind, container_id=nested))
        note(f"{who}: PRUNE_IMAGES", agent.api(who, "PRUNE_IMAGES", excluded_images=[]))
        note(f"{who}: MARK_RESOURCE_PROVIDER_GONE",
             agent.api(who, "MARK_RESOURCE_PROVIDER_GONE", resource_provider_id={"value": "none"}))
    return records


@pytest.fixture(scope="module")
def found():
    """Answers of both; those of the original are `None` where there is none."""
    folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
    master_port, port = free_port(), free_port()
    master = f"127.0.0.1:{master_port}"
    programs = [
        Program("dcos-master", {"ip": "127.0.0.1", "hostname": "127.0.0.1", "port": master_port, "only": "master",
                                "work_dir": folder / "master"}, folder / "master.log", {}),
        Program("dcos-agent", {
            "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": port, "master": master, "launcher": "posix",
            "work_dir": folder / "agent", "runtime_dir": folder / "run", "isolation": "posix/cpu,posix/mem",
            "resources": RESOURCES, **flags(folder)},
            folder / "agent.log", {}),
    ]
    original, sleepers = None, []
    try:
        for program in programs:
            program.start()
        agents = {"ours": Agent(f"http://127.0.0.1:{port}")}
        if AVAILABLE:
            original = Original(folder / "original", free_port(), master, credentials=folder / "credentials",
                                resources=RESOURCES, **flags(folder))
            original.start()
            agents["original"] = Agent(f"http://{original.address}/slave(1)")
        eventually("the agents' registration", lambda: len(get(f"http://{master}/slaves")["slaves"]) == len(agents))
        sleepers = [Sleeper(user, master) for user in ("root", "nobody")]
        for sleeper in sleepers:
            sleeper.driver.start()

        def running(agent):
            _, state = agent.ask("admin", "/state")
            tasks = [task for framework in state["frameworks"] for executor in framework["executors"]
                     for task in executor["tasks"]]
            directories = [executor["directory"] for framework in state["frameworks"]
                           for executor in framework["executors"]]
            wrote = all(b"here" in (Path(folder) / "stdout").read_bytes() for folder in directories)
            return len(tasks) == 2 and wrote and all(task["state"] == "TASK_RUNNING" for task in tasks)

        for agent in agents.values():
            eventually("two tasks", lambda agent=agent: running(agent))
        yield {name: answers(agent) for name, agent in agents.items()}
    finally:
        for sleeper in sleepers:
            sleeper.driver.stop()
            sleeper.driver.join()
        if original:
            original.kill()
        for program in reversed(programs):
            program.stop(signal.SIGUSR1 if program.name == "dcos-agent" else signal.SIGTERM)
        remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_guest_sees_what_it_may(found):
    ours = found["ours"]
    for what, expected in {
        "GET_TASKS": ["nobody"], "GET_EXECUTORS": ["nobody"], "GET_FRAMEWORKS": ["nobody"],
        "GET_CONTAINERS": ["nobody"], "/containers": ["nobody"],
    }.items():
        assert ours[f"guest: {what}"] == {"status": 200, "shown": expected}, what
        assert ours[f"admin: {what}"] == {"status": 200, "shown": ["nobody", "root"]}, what
        assert ours[f"None: {what}"]["status"] == ours[f"stranger: {what}"]["status"] == 401, what
    nothing: list[str] = []
    assert ours["guest: /state"]["shown"] == {
        "flags": False, "reserved": [nothing, nothing, nothing], "frameworks": [("nobody", 1, 1)]}
    assert ours["admin: /state"]["shown"]["reserved"] == [["closed"], ["closed"], nothing]
    assert (ours["guest: GET_AGENT"]["shown"], ours["admin: GET_AGENT"]["shown"]) == (False, True)
    assert ours["guest: READ_FILE of root"]["status"] == ours["guest: LIST_FILES of root"]["status"] == 403
    assert ours["guest: READ_FILE of nobody"] == {"status": 200, "shown": True}
    assert ours["None: /health"]["status"] == 200


@needed
def test_just_as_with_an_original(found):
    differing = {what: (answer, found["original"][what])
                 for what, answer in found["ours"].items() if answer != found["original"][what]}
    # MESOS-9006: the original shows everybody what is reserved for whom.
    assert [answer["shown"] for answer in differing.pop("guest: GET_AGENT")] == [False, True]
    # There are no resource providers here, and that is what is said.
    assert differing.pop("admin: MARK_RESOURCE_PROVIDER_GONE")[0]["status"] == 501
    assert not differing, json.dumps(differing, indent=1)
