"""A cluster of original Mesos becomes ours, agent by agent and then the master, while it works.

Nothing is restarted but what is replaced: an unmodified pymesos framework stays connected (or
comes back by itself), its tasks run on. The same load is put on both clusters, and the figures
stand side by side in the output (`pytest -s`).
"""

import json
import shutil
import signal
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import original
import pytest
from cluster import Program, eventually, free_port, get
from original import Original, resident_megabytes
from pymesos import MesosSchedulerDriver, Scheduler

pytestmark = original.needed

ENDED = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR", "TASK_GONE", "TASK_DROPPED")
SCALARS = {"cpus": 0.1, "mem": 16.0}


class Framework(Scheduler):
    """Launches what is asked for, where it is asked for, and remembers every update."""

    def __init__(self):
        self.lock = threading.Condition()
        self.wanted = []
        self.states = {}
        self.first_seen = {}
        self.launched_at = {}
        self.registrations = 0
        self.id = None
        self.messages = []

    def registered(self, driver, framework_id, master_info):
        with self.lock:
            self.id = framework_id["value"]
            self.registrations += 1

    def reregistered(self, driver, master_info):
        with self.lock:
            self.registrations += 1

    def resourceOffers(self, driver, offers):
        for offer in offers:
            have = {r["name"]: r["scalar"]["value"] for r in offer["resources"] if "scalar" in r}
            tasks = []
            with self.lock:
                for task_id, agent, command in list(self.wanted):
                    fits = all(have.get(name, 0) >= need - 1e-9 for name, need in SCALARS.items())
                    if fits and agent in (None, offer["agent_id"]["value"]):
                        self.wanted.remove((task_id, agent, command))
                        for name, need in SCALARS.items():
                            have[name] -= need
                        tasks.append(describe(task_id, offer["agent_id"], command))
                        self.launched_at[task_id] = time.monotonic()
                waiting = bool(self.wanted)
            driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.1 if waiting else 1})

    def statusUpdate(self, driver, update):
        with self.lock:
            task, state = update["task_id"]["value"], update["state"]
            self.states.setdefault(task, []).append((state, update.get("reason"), update.get("message")))
            self.first_seen.setdefault((task, state), time.monotonic())
            self.lock.notify_all()

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        self.messages.append(message)

    def launch(self, driver, tasks):
        with self.lock:
            self.wanted.extend(tasks)
        driver.reviveOffers()

    def wait_for(self, what, condition, timeout=180):
        with self.lock:
            assert self.lock.wait_for(lambda: condition(self.states), timeout), (what, self.states)

    def last(self, task):
        return self.states[task][-1][0]

    def bad(self, tasks):
        """Updates of `tasks` that tell of harm."""
        with self.lock:
            return [(task, update) for task in tasks for update in self.states.get(task, [])
                    if update[0] in ENDED or update[0] == "TASK_UNREACHABLE"]


def describe(task_id, agent_id, command):
    resources = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in SCALARS.items()]
    return {"task_id": {"value": task_id}, "agent_id": agent_id, "name": task_id,
            "command": {"value": command}, "resources": resources}


def beating(folder: Path, name: str) -> str:
    """A command that shows that it runs: a line each tenth of a second."""
    return f"while :; do date +%s.%N >>{folder}/beat-{name}; sleep 0.1; done"


def longest_pause(folder: Path, name: str) -> float:
    beats = [float(line) for line in (folder / f"beat-{name}").read_text().split()]
    return max(later - earlier for earlier, later in zip(beats, beats[1:]))


def latency(ask, count=20) -> float:
    times = []
    for _ in range(count):
        begun = time.monotonic()
        ask()
        times.append(time.monotonic() - begun)
    return statistics.median(times) * 1000


def get_state(master):
    request = urllib.request.Request(f"http://{master}/api/v1", json.dumps({"type": "GET_STATE"}).encode(), {
        "Content-Type": "application/json", "Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def measure(framework, driver, master, name, count=200):
    """The figures of one cluster under the same load."""
    one = f"{name}-first"
    framework.launch(driver, [(one, None, "true")])
    framework.wait_for("the first task", lambda states: (one, "TASK_RUNNING") in framework.first_seen)
    first = framework.first_seen[one, "TASK_RUNNING"] - framework.launched_at[one]
    tasks = [f"{name}-{number}" for number in range(count)]
    begun = time.monotonic()
    framework.launch(driver, [(task, None, "true") for task in tasks])
    framework.wait_for("the load", lambda states: all(
        states.get(task, [("",)])[-1][0] == "TASK_FINISHED" for task in tasks), 180)
    rate = count / (time.monotonic() - begun)
    return {
        "tasks/s": rate, "ms to TASK_RUNNING": first * 1000,
        "/state ms (p50)": latency(lambda: get(f"http://{master}/state", 30)),
        "GET_STATE ms (p50)": latency(lambda: get_state(master)),
    }


class OurAgent:
    def __init__(self, before: Original, folder: Path) -> None:
        self.program = Program("dcos-agent", {
            "ip": "127.0.0.1", "port": before.port, "master": before.of, "hostname": "127.0.0.1",
            "work_dir": before.work_dir, "runtime_dir": folder / "run", "launcher": "posix",
            "isolation": "posix/cpu,posix/mem", "executor_reregistration_timeout": "15secs",
            "resources": before.environment["MESOS_RESOURCES"],
        }, folder / "agent.log", {"RUST_LOG": "info"})
        folder.mkdir(exist_ok=True)


def registered_agents(master):
    return {agent["id"]: agent for agent in get(f"http://{master}/slaves")["slaves"] if agent["active"]}


@pytest.fixture
def folder():
    folder = Path(tempfile.mkdtemp(prefix="dcos-takeover-"))
    yield folder
    if shutil.disk_usage(folder):
        original.remove(folder)


def test_a_cluster_of_originals_is_replaced_while_it_works(folder):
    master = Original(folder / "master", free_port(), agent_reregister_timeout="10mins").start()
    agents = [Original(folder / f"agent{n}", free_port(), of=master.address,
                       recovery_timeout="5mins").start() for n in (1, 2)]
    eventually("both agents", lambda: len(registered_agents(master.address)) == 2)
    id_at = {agent["pid"].split("@")[1]: key for key, agent in registered_agents(master.address).items()}

    framework = Framework()
    driver = MesosSchedulerDriver(framework, {
        "user": "root", "name": "takeover", "checkpoint": True, "failover_timeout": 600.0,
    }, master.address)
    driver.start()
    programs = []
    try:
        eventually("the framework", lambda: framework.id)
        services = {}
        for number, agent in enumerate(agents, 1):
            for copy in "ab":
                services[f"service-{number}{copy}"] = id_at[agent.address]
        framework.launch(driver, [(task, agent, beating(folder, task)) for task, agent in services.items()])
        framework.wait_for("services", lambda states: all(
            states.get(task, [("",)])[-1][0] == "TASK_RUNNING" for task in services))
        before = measure(framework, driver, master.address, "original")
        before["master MB"] = master.resident_megabytes()
        before["agent MB"] = agents[0].resident_megabytes()
        framework_id = framework.id

        for number, agent in enumerate(agents, 1):
            agent.kill()
            ours = OurAgent(agent, folder / f"ours{number}")
            programs.append(ours.program)
            ours.program.start()
            own = id_at[agent.address]
            eventually(f"agent {number} under our program", lambda a=agent: get(
                f"http://{a.address}/version")["git_tag"].startswith("dcos-"))
            eventually(f"agent {number} at the original master", lambda o=own, m=master: (
                registered_agents(m.address).get(o, {}).get("active")))
            # It takes new tasks, and the old ones are known to it.
            probe = f"probe-{number}"
            framework.launch(driver, [(probe, own, "true")])
            framework.wait_for(probe, lambda states, p=probe: states.get(p, [("",)])[-1][0] == "TASK_FINISHED")
            known = {task["task_id"]["value"] for f in [get_tasks(agent.address)]
                     for task in f.get("launched_tasks", [])}
            assert {task for task, at in services.items() if at == own} <= known
            assert framework.bad(services) == []

        master.kill()
        ours = Program("dcos-master", {
            "ip": "127.0.0.1", "port": master.port, "hostname": "127.0.0.1",
            "work_dir": folder / "ours-master", "without": "marathon,metronome,dns",
        }, folder / "master.log", {"RUST_LOG": "info"})
        programs.append(ours)
        ours.start()
        eventually("our master", lambda: get(f"http://{master.address}/version")["git_tag"].startswith("dcos-"))
        eventually("both agents at our master", lambda: set(registered_agents(master.address)) == set(id_at.values()))
        eventually("the framework at our master", lambda: [
            f for f in get(f"http://{master.address}/frameworks")["frameworks"]
            if f["id"] == framework_id and f["connected"]])
        eventually("its tasks at our master", lambda: {
            task["id"] for f in get(f"http://{master.address}/state")["frameworks"]
            for task in f["tasks"] if task["state"] == "TASK_RUNNING"} >= set(services))
        assert framework.id == framework_id
        after = measure(framework, driver, master.address, "ours")
        after["master MB"] = resident_megabytes(ours.process.pid)
        after["agent MB"] = resident_megabytes(programs[0].process.pid)
        assert framework.bad(services) == []
        pauses = {task: longest_pause(folder, task) for task in services}
        # One of them may meet a moment in which the machine does nothing.
        assert sorted(pauses.values())[len(pauses) // 2] < 2 and max(pauses.values()) < 15, pauses

        # What was launched under the original is ended, and its updates come, under ours.
        for task in services:
            driver.killTask({"value": task})
        framework.wait_for("the services' ends", lambda states: all(
            framework.last(task) == "TASK_KILLED" for task in services))
        print(f"\n{'':24}{'original':>12}{'ours':>12}")
        for name, value in before.items():
            print(f"{name:24}{value:12.1f}{after[name]:12.1f}")
        print(f"longest pause of a service: {max(pauses.values()):.2f} s")
    except BaseException:
        for log in sorted(folder.glob("**/*.log")) + sorted(folder.glob("*/log")):
            print(f"--- {log}", *log.read_text(errors="replace").splitlines()[-40:], sep="\n")
        raise
    finally:
        driver.stop()
        driver.join()
        for program in programs:
            program.stop(signal.SIGUSR1 if program.name == "dcos-agent" else signal.SIGTERM)
        for process in (*agents, master):
            process.kill()


def get_tasks(agent):
    request = urllib.request.Request(f"http://{agent}/slave(1)/api/v1", json.dumps({"type": "GET_TASKS"}).encode(), {
        "Content-Type": "application/json", "Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["get_tasks"]


