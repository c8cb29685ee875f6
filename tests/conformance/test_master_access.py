"""What masters show to whom: ours, and an original that was given the same credentials and rules.

Two frameworks run a task on what is reserved for their roles: one of the user `root` in the role `closed`, one of
`nobody` in `open`. A guest may see what is nobody's, and the role `open`.
"""

import http.client
import json
import shutil
import signal
import tempfile
import threading
from base64 import b64encode
from pathlib import Path

import pytest
from cluster import PORTS, Program, eventually, free_port
from original import AVAILABLE, Original, needed, remove
from pymesos import MesosSchedulerDriver, Scheduler
from test_agent_access import SECRETS, Agent

GUEST, NONE = {"values": ["guest"]}, {"type": "NONE"}


def only(what: str, *values: str) -> list[dict]:
    return [{"principals": GUEST, what: {"values": list(values)}}, {"principals": GUEST, what: NONE}]


ACLS = {
    "permissive": True, "view_roles": only("roles", "open"), "get_endpoints": [{"principals": GUEST, "paths": NONE}],
    "view_flags": [{"principals": GUEST, "flags": NONE}],
    **{name: only("users", "nobody") for name in ("view_frameworks", "view_tasks", "view_executors")},
}
ROLES = {"root": "closed", "nobody": "open"}
RESOURCES = f"cpus(closed):2;cpus(open):2;cpus:2;mem:4096;disk:1000;{PORTS}"


def flags(folder: Path) -> dict[str, str]:
    credentials = folder / "credentials"
    credentials.write_text(json.dumps({"credentials": [
        {"principal": principal, "secret": secret} for principal, secret in SECRETS.items()]}))
    credentials.chmod(0o600)
    return {
        "credentials": str(credentials), "acls": json.dumps(ACLS),
        "authenticate_http_readonly": "true", "authenticate_http_readwrite": "true",
    }


class Sleeper(Scheduler):
    """One task on what is reserved for its role."""

    def __init__(self, user: str, master: str) -> None:
        self.user, self.role, self.launched = user, ROLES[user], False
        self.driver = MesosSchedulerDriver(self, {"user": user, "name": user, "role": self.role}, master)

    def resourceOffers(self, driver, offers):
        for offer in offers:
            # What is not reserved may be offered to the other one.
            wanted = {("cpus", self.role), ("mem", "*")}
            enough = wanted <= {(resource["name"], resource.get("role")) for resource in offer["resources"]}
            tasks = [] if self.launched or not enough else [{
                "task_id": {"value": f"task-of-{self.user}"}, "agent_id": offer["agent_id"], "name": self.user,
                "command": {"value": "sleep 1000"}, "resources": [
                    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}, "role": self.role},
                    {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}}]}]
            self.launched = self.launched or bool(tasks)
            driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.5})


class Watcher(threading.Thread):
    """Who reads events, and whom they were about."""

    def __init__(self, master: Agent, who: str) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[str, str]] = []
        self.roles: set[str] = set()
        self.frameworks: dict[str, str] = {}
        host = master.url.removeprefix("http://")
        self.connection = http.client.HTTPConnection(host, timeout=180)
        shown = b64encode(f"{who}:{SECRETS[who]}".encode()).decode()
        self.connection.request("POST", "/api/v1", json.dumps({"type": "SUBSCRIBE"}), {
            "Content-Type": "application/json", "Accept": "application/json", "Authorization": f"Basic {shown}"})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        self.start()

    def run(self) -> None:
        try:
            while line := self.answer.readline():
                self.note(json.loads(self.answer.read(int(line))))
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            pass  # The end of the test.

    def note(self, event: dict) -> None:
        kind = event["type"]
        about = event.get(kind.lower(), {})
        if kind in ("FRAMEWORK_ADDED", "FRAMEWORK_REMOVED"):
            info = about.get("framework", about)["framework_info"]
            self.frameworks[info["id"]["value"]] = info["name"]
            who = info["name"]
        elif kind == "TASK_ADDED":
            who = about["task"]["name"]
        elif kind == "TASK_UPDATED":
            who = f'{about["status"]["task_id"]["value"]} {about["state"]}'
        elif kind == "AGENT_ADDED":
            self.roles |= roles_in(about["agent"]["total_resources"])
            return
        else:
            return
        self.seen.append((kind, who))

    def close(self) -> None:
        self.connection.close()


def roles_in(resources: list[dict]) -> set[str]:
    """All roles that resources name."""
    found = set()
    for resource in resources:
        found |= {one["role"] for one in resource.get("reservations", [])}
        found |= {resource.get("role", "*"), resource.get("allocation_info", {}).get("role", "*")}
    return found - {"*"}


def names(listed: list[dict]) -> list[str]:
    return sorted(one["name"] for one in listed)


def of_agents(found: dict) -> object:
    (agent,) = found["slaves"]
    fields = {key: sorted(agent[key]) for key in ("reserved_resources", "reserved_resources_full") if key in agent}
    for key in ("unreserved_resources_full", "used_resources_full", "offered_resources_full"):
        if key in agent and key != "offered_resources_full":
            fields[key] = sorted(roles_in(agent[key]))
        elif key in agent:
            fields[key] = "closed" in roles_in(agent[key])
    return fields


def of_state(found: dict) -> object:
    frameworks = {one["name"]: names(one["tasks"]) for one in found["frameworks"]}
    return {"frameworks": frameworks, "flags": "flags" in found, "agents": of_agents(found)}


def of_v1(found: dict) -> object:
    shown: dict[str, object] = {}
    for kind, part in found.items():
        if kind == "get_frameworks":
            shown[kind] = sorted(one["framework_info"]["name"] for one in part["frameworks"])
        elif kind == "get_tasks":
            shown[kind] = names(part["tasks"])
        elif kind == "get_executors":
            shown[kind] = len(part.get("executors", []))
        elif kind == "get_agents":
            (agent,) = part["agents"]
            shown[kind] = {key: sorted(roles_in(agent.get(key, []))) for key in ("total_resources", "allocated_resources")}
    return shown


def answers(master: Agent) -> dict[str, object]:
    """Statuses, and what of whom is shown."""
    records: dict[str, object] = {}
    for who in (None, "stranger", "guest", "admin"):
        def note(what: str, answer: tuple[int, object], pick=lambda found: None, who=who) -> None:
            status, found = answer
            records[f"{who}: {what}"] = {"status": status, "shown": pick(found) if status == 200 and found else None}

        note("/state", master.ask(who, "/state"), of_state)
        note("/slaves", master.ask(who, "/slaves"), of_agents)
        note("/frameworks", master.ask(who, "/frameworks"), lambda found: names(found["frameworks"]))
        note("/tasks", master.ask(who, "/tasks"), lambda found: names(found["tasks"]))
        note("/roles", master.ask(who, "/roles"), lambda found: sorted(set(names(found["roles"])) - {"*"}))
        note("/state-summary", master.ask(who, "/state-summary"), lambda found: names(found["frameworks"]))
        for path in ("/flags", "/metrics/snapshot", "/health"):
            note(path, master.ask(who, path))
        note("GET_STATE", master.api(who, "GET_STATE"), lambda found: of_v1(found["get_state"]))
        for kind in ("GET_TASKS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_AGENTS"):
            note(kind, master.api(who, kind), of_v1)
        note("GET_ROLES", master.api(who, "GET_ROLES"),
             lambda found: sorted(set(names(found["get_roles"]["roles"])) - {"*"}))
        note("GET_OPERATIONS", master.api(who, "GET_OPERATIONS"))
    return records


class Site:
    """A master, an agent of ours, two frameworks, two watchers."""

    def __init__(self, folder: Path, master: str) -> None:
        self.master = Agent(f"http://{master}")
        self.agent = Program("dcos-agent", {
            "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": free_port(), "master": master, "launcher": "posix",
            "work_dir": folder / "agent", "runtime_dir": folder / "run", "isolation": "posix/cpu,posix/mem",
            "switch_user": "false", "resources": RESOURCES}, folder / "agent.log", {})
        self.address, self.sleepers, self.watchers = master, {}, {}

    def run(self) -> dict[str, object]:
        self.watchers = {who: Watcher(self.master, who) for who in ("guest", "admin")}
        self.agent.start()
        eventually("the agent's registration", lambda: self.master.ask("admin", "/slaves")[1]["slaves"])
        self.sleepers = {user: Sleeper(user, self.address) for user in ROLES}
        for sleeper in self.sleepers.values():
            sleeper.driver.start()
        running = {("TASK_UPDATED", f"task-of-{user} TASK_RUNNING") for user in ROLES}
        eventually("two tasks", lambda: running <= set(self.watchers["admin"].seen))
        found = answers(self.master)
        found["why"] = {who: self.master.ask(who, "/allocator/explain") for who in ("guest", "admin", None)}
        found["metrics"] = {who: self.master.ask(who, "/metrics")[0] for who in ("guest", "admin")}
        # Behind the end of what the guest sees nothing of what came before is missing.
        for user in ROLES:
            self.sleepers[user].driver.stop()
        for watcher in self.watchers.values():
            eventually("the end", lambda watcher=watcher: ("FRAMEWORK_REMOVED", "nobody") in watcher.seen)
        found["events"] = {who: sorted(set(watcher.seen)) for who, watcher in self.watchers.items()}
        found["roles in events"] = {who: sorted(watcher.roles) for who, watcher in self.watchers.items()}
        return found

    def stop(self) -> None:
        for sleeper in self.sleepers.values():
            sleeper.driver.stop()
            sleeper.driver.join()
        for watcher in self.watchers.values():
            watcher.close()
        self.agent.stop(signal.SIGUSR1)


@pytest.fixture(scope="module")
def found():
    """Answers of both; there may be none of an original."""
    folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
    port = free_port()
    ours = Program("dcos-master", {"ip": "127.0.0.1", "hostname": "127.0.0.1", "port": port, "only": "master",
                                   "work_dir": folder / "master", **flags(folder)}, folder / "master.log", {})
    original, sites = None, []
    try:
        ours.start()
        (folder / "ours").mkdir()
        sites.append(Site(folder / "ours", f"127.0.0.1:{port}"))
        eventually("the master's start", lambda: sites[0].master.ask("admin", "/state")[0] == 200)
        results = {"ours": sites[0].run()}
        if AVAILABLE:
            original = Original(folder / "original", free_port(), **flags(folder))
            original.start()
            (folder / "beside").mkdir()
            sites.append(Site(folder / "beside", original.address))
            results["original"] = sites[1].run()
        yield results
    finally:
        for site in sites:
            site.stop()
        if original:
            original.kill()
        ours.stop()
        remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_guest_sees_what_it_may(found):
    ours = found["ours"]
    for what, guest, admin in (
        ("/frameworks", ["nobody"], ["nobody", "root"]), ("/tasks", ["nobody"], ["nobody", "root"]),
        ("/roles", ["open"], ["closed", "open"]), ("GET_ROLES", ["open"], ["closed", "open"]),
        ("/state-summary", ["nobody"], ["nobody", "root"]),
    ):
        assert ours[f"guest: {what}"] == {"status": 200, "shown": guest}, what
        assert ours[f"admin: {what}"] == {"status": 200, "shown": admin}, what
        assert ours[f"None: {what}"]["status"] == ours[f"stranger: {what}"]["status"] == 401, what
    assert "closed" not in json.dumps([answer for what, answer in ours.items() if what.startswith("guest: ")])
    assert "closed" in json.dumps(ours["admin: /slaves"]) and "closed" in json.dumps(ours["admin: GET_AGENTS"])
    assert ours["guest: /state"]["shown"]["flags"] is False and ours["guest: /flags"]["status"] == 403
    assert ours["None: /health"]["status"] == 200


def test_no_other_door_leads_to_it(found):
    ours = found["ours"]
    assert ours["guest: /metrics/snapshot"]["status"] == ours["metrics"]["guest"] == 403
    assert ours["admin: /metrics/snapshot"]["status"] == ours["metrics"]["admin"] == 200
    status, why = ours["why"]["guest"]
    assert status == 200 and "closed" not in json.dumps(why) and "root" not in json.dumps(why)
    assert {one["framework_name"] for one in why["explanations"]} == {"nobody"}
    status, why = ours["why"]["admin"]
    assert {one["framework_name"] for one in why["explanations"]} == set(ROLES)
    assert ours["why"][None][0] == 401


def test_events_are_told_to_those_who_may_hear_them(found):
    events = found["ours"]["events"]
    assert all("root" not in who for _, who in events["guest"])
    for kind in ("FRAMEWORK_ADDED", "TASK_ADDED", "FRAMEWORK_REMOVED"):
        assert {(kind, "nobody")} == {event for event in events["guest"] if event[0] == kind}
        assert {(kind, user) for user in ROLES} == {event for event in events["admin"] if event[0] == kind} or (
            kind == "FRAMEWORK_REMOVED")
    assert ("TASK_UPDATED", "task-of-nobody TASK_RUNNING") in events["guest"]
    assert found["ours"]["roles in events"] == {"guest": ["open"], "admin": ["closed", "open"]}


@needed
def test_just_as_with_an_original(found):
    ours, original = found["ours"], found["original"]
    differing = {what: (answer, original[what]) for what, answer in ours.items()
                 # The program in which the original runs leaves the metrics of libprocess open.
                 if what not in ("why", "metrics", "events") and "/metrics/snapshot" not in what
                 and answer != original[what]}
    assert not differing, json.dumps(differing, indent=1)
    told = {name: [event for event in answers["events"]["guest"] if event[0] != "TASK_UPDATED"]
            for name, answers in found.items()}
    assert told["ours"] == told["original"]
