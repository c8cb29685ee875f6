"""`dcos migrate`: what an original Marathon and Metronome left in ZooKeeper is taken over, and what they run goes on.

What runs is started by a Marathon and a Metronome of ours, which then die; the nodes the originals would have left are
written by hand, in the originals' encoding.
"""

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest
from cluster import Program, binary, eventually, free_port, get
from test_zookeeper import JAR, Ensemble

WEB = {"id": "/prod/web", "cmd": "echo $MODE; sleep 1000", "cpus": 0.1, "mem": 32, "env": {"MODE": "fast"}}
JOB = {"id": "nightly", "run": {"cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "disk": 0}}
VERSION = "2021-03-02T11:30:00.500Z"
MILLIS = 1614684600500


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def message(*fields: tuple[int, object]) -> bytes:
    """Fields of a protobuf message: numbers, doubles, texts and messages."""
    out = b""
    for tag, value in fields:
        if isinstance(value, float):
            import struct
            out += varint(tag << 3 | 1) + struct.pack("<d", value)
        elif isinstance(value, int):
            out += varint(tag << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(tag << 3 | 2) + varint(len(data)) + data
    return out


def scalar(name: str, amount: float) -> bytes:
    return message((1, name), (2, 0), (3, message((1, amount))))


def bucket(name: str) -> str:
    """As the original spreads nodes: by Java's hash."""
    number = 0
    for char in name:
        number = (31 * number + ord(char)) & 0xFFFFFFFF
    number = number - (1 << 32) if number >> 31 else number
    return f"{abs(number) % 16:x}"


class Tree:
    """What an original keeps below a path."""

    def __init__(self, zookeeper, path: str) -> None:
        self.zookeeper, self.path = zookeeper, path
        self.put("internal:storage:version", self.entry(message((1, 110), (2, 100), (3, 0), (4, 1))))

    @staticmethod
    def entry(value: bytes) -> bytes:
        return message((1, "name"), (2, "uuid"), (3, value), (4, 0))

    def put(self, name: str, data: bytes) -> None:
        path = f"{self.path}/state/{name}"
        self.zookeeper.ensure_path(path)
        self.zookeeper.set(path, data)

    def save(self, category: str, name: str, data: bytes, version: str | None = None) -> None:
        place = f"{category}/{bucket(name)}/{name}"
        self.put(place, data)
        if version:
            self.put(f"{place}/{version}", data)

    def instance(self, task: dict, instance: str, role: str) -> None:
        """A running instance, as the master tells of its task."""
        status = message((1, message((1, task["id"]))), (2, 1), (5, message((1, task["slave_id"]))))
        state = {"condition": "Running", "since": VERSION, "activeSince": VERSION, "goal": "Running"}
        ports = {"hostName": "127.0.0.1", "hostPorts": [], "ipAddresses": []}
        stored = {
            "instanceId": {"idString": instance},
            "agentInfo": {"host": "127.0.0.1", "agentId": task["slave_id"], "attributes": []},
            "tasksMap": {task["id"]: {"taskId": task["id"], "runSpecVersion": VERSION, "status": {
                "stagedAt": VERSION, "startedAt": VERSION, "mesosStatus": base64.b64encode(status).decode(),
                "condition": "Running", "networkInfo": ports}}},
            "runSpecVersion": VERSION, "state": state, "role": role,
        }
        self.save("instance", instance, json.dumps(stored).encode())


def web() -> bytes:
    """`WEB`, twice."""
    command = message((2, message((1, message((1, "MODE"), (2, "fast"))))), (3, WEB["cmd"]))
    return message(
        (1, "/prod/web"), (2, command), (3, 2), (4, scalar("cpus", 0.1)), (4, scalar("mem", 32.0)), (8, ""),
        (11, VERSION), (13, 1000), (14, 1.15), (15, message((1, 1.0), (2, 1.0))), (21, 300000), (23, MILLIS),
        (24, MILLIS), (32, message((1, 0), (2, 0))), (34, message((1, 1))), (38, "*"),
    )


def job() -> bytes:
    run = message((1, 0.1), (2, 32.0), (3, 0.0), (4, JOB["run"]["cmd"]), (8, b""), (10, 3600), (13, message((1, 2))))
    schedule = message((1, "every"), (2, "0 0 1 1 *"), (3, "UTC"), (4, 900), (5, 2), (6, 1))
    return message((1, "nightly"), (5, schedule), (6, run))


@pytest.fixture(scope="module")
def ensemble():
    if not JAR.exists():
        pytest.skip("Debian's package zookeeper is not installed")
    with Ensemble(components="master") as ensemble:
        yield ensemble


def services(ensemble: Ensemble, folder: Path) -> Program:
    """A Marathon and a Metronome with a store of their own."""
    folder.mkdir(exist_ok=True)
    return Program("dcos-master", {
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "only": "marathon,metronome", "master": ensemble.url,
        "marathon_port": free_port(), "metronome_port": free_port(), "work_dir": folder / "state",
    }, folder / "log", {"RUST_LOG": os.environ.get("RUST_LOG", "info")})


def ask(program: Program, port: str, path: str, body: dict | None = None):
    url = f"http://127.0.0.1:{program.flags[port]}{path}"
    if body is None:
        return get(url)
    done = subprocess.run(["curl", "-sS", "-XPOST", "-HContent-Type: application/json", "-d", json.dumps(body), url],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def frameworks(ensemble: Ensemble) -> dict[str, dict]:
    return {one["name"]: one for one in get(f"http://127.0.0.1:{ensemble.leads()}/state")["frameworks"]}


def running(ensemble: Ensemble, name: str) -> dict[str, dict]:
    tasks = frameworks(ensemble)[name]["tasks"]
    return {task["id"]: task for task in tasks if task["state"] == "TASK_RUNNING"}


def migrate(*words: str) -> tuple[int, dict]:
    done = subprocess.run([binary("dcos"), "--json", "migrate", *words], capture_output=True, text=True, timeout=600)
    return done.returncode, {**json.loads(done.stdout or "{}"), "error": done.stderr}


def test_what_runs_is_taken_over(ensemble, tmp_path):
    before = services(ensemble, tmp_path / "before")
    before.start()
    try:
        eventually("Marathon leads", lambda: ask(before, "marathon_port", "/v2/info")["frameworkId"])
        ask(before, "marathon_port", "/v2/apps", WEB)
        eventually("Metronome leads", lambda: ask(before, "metronome_port", "/v1/jobs") == [])
        ask(before, "metronome_port", "/v1/jobs", JOB)
        run = ask(before, "metronome_port", "/v1/jobs/nightly/runs", {})["id"]
        [app_task] = eventually("the app runs", lambda: list(running(ensemble, "marathon").values()))
        [job_task] = eventually("the job runs", lambda: list(running(ensemble, "metronome").values()))
    finally:
        before.kill()

    ids = {name: one["id"] for name, one in frameworks(ensemble).items()}
    marathon = Tree(ensemble.zookeeper, "/marathon")
    marathon.save("framework-id", "id", message((1, ids["marathon"])))
    marathon.save("apps", "prod_web", web(), VERSION)
    marathon.save("apps", "broken", b"\x0a\xff\xff", VERSION)
    prod = message((1, "prod"), (2, VERSION), (6, message((1, "prod_web"), (2, VERSION))), (9, 0))
    broken = message((1, "broken"), (2, VERSION))
    marathon.save("group", "root", message((1, ""), (2, VERSION), (4, prod), (6, broken)), VERSION)
    marathon.instance(app_task, app_task["id"].removesuffix("._app.1"), "*")
    metronome = Tree(ensemble.zookeeper, "/metronome")
    metronome.save("framework-id", "id", message((1, ids["metronome"])))
    metronome.put("job-specs", b"127.0.0.1")
    metronome.put("job-specs/nightly", metronome.entry(job()))
    task = message((1, job_task["id"]), (2, MILLIS), (4, 5))
    name = message((1, "nightly"), (2, run))
    metronome.put(f"job-runs/nightly/{run}",
                  metronome.entry(message((1, name), (2, job()), (3, 3), (4, MILLIS), (6, task))))
    metronome.instance(job_task, job_task["id"].removesuffix("._app.1"), "*")

    after = services(ensemble, tmp_path / "after")
    place = f"--work-dir={after.flags['work_dir']}"
    origins = {kind: f"--from=zk://{ensemble.servers}/{kind}" for kind in ("marathon", "metronome")}
    code, told = migrate("marathon", origins["marathon"], "--dry-run")
    assert (code, told["taken"]["apps"], told["taken"]["instances"]) == (0, 1, 1), told
    assert not Path(after.flags["work_dir"]).exists()
    assert any(note["what"] == "service /broken" and note["fate"] == "left" for note in told["notes"]), told

    # While an original runs, nothing is copied.
    ensemble.zookeeper.create("/marathon/leader-curator/_c_1-latch-0000000000", ephemeral=True, makepath=True)
    code, told = migrate("marathon", origins["marathon"], place)
    assert code == 1 and "stop them first" in told["error"], told
    ensemble.zookeeper.delete("/marathon/leader-curator/_c_1-latch-0000000000")

    for kind in ("marathon", "metronome"):
        code, told = migrate(kind, origins[kind], place)
        assert (code, told["outcome"]) == (0, "written"), told
        code, told = migrate(kind, origins[kind], place)
        assert (code, told["outcome"]) == (0, "all of it was there already"), told

    after.start()
    try:
        def app() -> dict:
            return ask(after, "marathon_port", "/v2/apps//prod/web?embed=app.tasks")["app"]
        eventually("two run", lambda: app()["tasksRunning"] == 2)
        assert app_task["id"] in {task["id"] for task in app()["tasks"]}
        assert app()["version"] == VERSION and app()["env"] == {"MODE": "fast"}
        assert app_task["id"] in running(ensemble, "marathon") and len(running(ensemble, "marathon")) == 2
        eventually("Metronome is back", lambda: ask(after, "metronome_port", "/v1/jobs/nightly"))
        [goes_on] = ask(after, "metronome_port", "/v1/jobs/nightly/runs")
        assert (goes_on["id"], goes_on["status"]) == (run, "ACTIVE")
        assert list(running(ensemble, "metronome")) == [job_task["id"]]
        assert {name: one["id"] for name, one in frameworks(ensemble).items()} == ids
        # And they serve on.
        stopped = f"/v1/jobs/nightly/runs/{run}/actions/stop"
        ask(after, "metronome_port", stopped, {})
        eventually("the run ended", lambda: not running(ensemble, "metronome"))

        # What is there differs by now, and would be replaced if the store were not in use.
        code, told = migrate("marathon", origins["marathon"], place, "--overwrite")
        assert code == 1 and "opening the store" in told["error"], told
    finally:
        after.stop()


def test_nothing_is_written_beside_one_of_ours_that_leads(ensemble, tmp_path):
    origin = Tree(ensemble.zookeeper, "/origin")
    origin.save("apps", "prod_web", web(), VERSION)
    prod = message((1, "prod"), (2, VERSION), (6, message((1, "prod_web"), (2, VERSION))), (9, 0))
    origin.save("group", "root", message((1, ""), (2, VERSION), (4, prod)), VERSION)
    place = f"zk://{ensemble.servers}/ours"
    words = ("marathon", f"--from=zk://{ensemble.servers}/origin", f"--into={place}")
    (tmp_path / "ours").mkdir()
    ours = Program("dcos-master", {
        "ip": "127.0.0.1", "hostname": "127.0.0.1", "only": "marathon", "master": ensemble.url, "zk": place,
        "zk_session_timeout": "10secs", "marathon_port": free_port(), "work_dir": tmp_path / "ours" / "state",
    }, tmp_path / "ours" / "log", {"RUST_LOG": os.environ.get("RUST_LOG", "info")})
    ours.start()
    try:
        old = eventually("ours leads", lambda: ask(ours, "marathon_port", "/v2/info")["frameworkId"])
        code, told = migrate(*words, "--overwrite")
        assert code == 1 and "a marathon of ours runs: stop it first" in told["error"], told
    finally:
        ours.stop()
    code, told = migrate(*words)
    assert code == 1 and "pass --overwrite" in told["error"], told
    code, told = migrate(*words, "--overwrite")
    assert (code, told["outcome"]) == (0, "written"), told
    [replaced] = [note["why"] for note in told["notes"] if note["what"] == "what was there before"]
    assert old in replaced, "it says whose tasks are nobody's now"
