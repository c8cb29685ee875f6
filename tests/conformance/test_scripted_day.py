"""A day of an app, as a listener of Marathon's events sees it: each event by type, order and fields, against what the original
sends (Marathon 1.11, `core/event/Events.scala` and where these are published)."""

import json
import re
import threading
import urllib.request

import pytest
from cluster import TASK_PORTS, Cluster, eventually

# The fields of each event beside `eventType` and `timestamp`.
FIELDS = {
    "event_stream_attached": "remoteAddress",
    "api_post_event": "clientIp uri appDefinition",
    "group_change_success": "groupId version",
    "deployment_info": "plan currentStep",
    "deployment_step_success": "plan currentStep",
    "deployment_success": "id plan",
    "deployment_failed": "id plan reason",
    "add_health_check_event": "appId version healthCheck",
    "remove_health_check_event": "appId",
    "failed_health_check_event": "appId taskId healthCheck",
    "health_status_changed_event": "appId instanceId version alive",
    "instance_health_changed_event": "instanceId runSpecId healthy runSpecVersion",
    "unhealthy_instance_kill_event": "appId taskId instanceId version reason host slaveId",
    "instance_changed_event": "instanceId condition runSpecId agentId host runSpecVersion",
    "status_update_event": "slaveId taskId taskStatus message appId host ipAddresses ports version",
    "app_terminated_event": "appId",
}
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
INSTANCE = r"day\.instance-[0-9a-f-]{36}"
AGENT = r"[0-9a-f-]{36}-S\d+"
UUID = r"[0-9a-f-]{36}"
# What the texts of fields look like.
FORMS = {
    "timestamp": MOMENT, "version": MOMENT, "runSpecVersion": MOMENT, "appId": "/day", "runSpecId": "/day", "groupId": "/",
    "instanceId": INSTANCE, "agentId": AGENT, "slaveId": AGENT, "host": r"127\.0\.0\.1", "clientIp": r"127\.0\.0\.1",
    "remoteAddress": r"127\.0\.0\.1", "id": UUID, "uri": "/v2/apps(/day)?", "message": "(?s).*", "reason": ".+",
    "condition": "Provisioned|Starting|Running|Killing|Killed|Failed",
    "taskStatus": "TASK_(STARTING|RUNNING|KILLING|KILLED|FAILED)",
}
# `touch stop` in the sandbox makes it fail, `rm ok` unhealthy.
SERVE = "touch ok; python3 -m http.server $PORT0 & while [ ! -f stop ]; do sleep 0.1; done; kill $!; exit 3"
CHECK = {"protocol": "HTTP", "path": "/ok", "portIndex": 0, "intervalSeconds": 1, "delaySeconds": 0,
         "gracePeriodSeconds": 60, "maxConsecutiveFailures": 2}
DAY = {"id": "/day", "cmd": SERVE, "cpus": 0.1, "mem": 64, "instances": 1, "healthChecks": [CHECK],
       "backoffSeconds": 1, "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1}}


class Listener:
    """What one client of `/v2/events` hears."""

    def __init__(self, url):
        self.events = []
        self.begin = 0
        self.stream = urllib.request.urlopen(f"{url}/v2/events", timeout=180)
        assert self.stream.headers["Content-Type"].startswith("text/event-stream")
        threading.Thread(target=self.listen, daemon=True).start()
        eventually("the first event", lambda: self.events)

    def listen(self):
        kind = None
        for line in self.stream:
            name, _, value = line.decode().rstrip("\r\n").partition(":")
            if name == "event":
                kind = value.strip()
            elif name == "data":
                document = json.loads(value)
                assert document["eventType"] == kind
                self.events.append(document)

    def until(self, what, condition):
        """The events since the last time, once they satisfy `condition`."""
        found = eventually(what, lambda: condition(self.events[self.begin:]) and self.events[self.begin:])
        self.begin += len(found)
        return found


@pytest.fixture(scope="module")
def day():
    with Cluster(master_flags={"without": "dns,metronome"}) as cluster:
        yield Day(cluster)


class Day:
    def __init__(self, cluster):
        self.cluster = cluster
        eventually("Marathon's answer", lambda: self("GET", "/v2/apps"))
        self.listener = Listener(cluster.marathon)

    def __call__(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.cluster.marathon + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())

    def deployed(self, what, deployment):
        return self.listener.until(what, lambda events: any(
            each["eventType"] == "deployment_success" and each["id"] == deployment for each in events))

    def sandbox(self, task):
        [folder] = self.cluster.folder.glob(f"agent/slaves/*/frameworks/*/executors/{task}/runs/latest")
        return folder

    def tasks(self):
        return [task["id"] for task in self("GET", "/v2/apps/day")["app"]["tasks"]]


def short(event):
    """An event in a word or two."""
    kind = event["eventType"]
    told = {"instance_changed_event": "condition", "status_update_event": "taskStatus",
            "health_status_changed_event": "alive", "instance_health_changed_event": "healthy"}
    if "currentStep" in event:
        return f"{kind} {'+'.join(action['action'] for action in event['currentStep']['actions'])}"
    return f"{kind} {event[told[kind]]}" if kind in told else kind


def check(events):
    """Each event has its fields, none more, of their forms; they fit each other."""
    assert events
    for event in events:
        kind = event["eventType"]
        assert set(event) == {"eventType", "timestamp", *FIELDS[kind].split()}, event
        for field, form in FORMS.items():
            if field == "taskId" or field not in event:
                continue
            assert re.fullmatch(form, event[field]), (kind, field, event[field])
        if "plan" in event:
            assert set(event["plan"]) == {"id", "version", "steps"}, "the trees are left out since 1.8"
            assert "id" not in event or event["id"] == event["plan"]["id"]
        if "currentStep" in event:
            assert event["currentStep"] in event["plan"]["steps"]
        # Of a failed check it is the instance's id, a quirk of the original; else it is the task's.
        if "taskId" in event:
            form = INSTANCE if kind == "failed_health_check_event" else INSTANCE + r"\._app\.1"
            assert re.fullmatch(form, event["taskId"]), event
        if kind == "status_update_event":
            [port] = event["ports"]
            assert port in TASK_PORTS
            assert event["ipAddresses"] == [{"ipAddress": "127.0.0.1", "protocol": "IPv4"}]
        if "healthCheck" in event:
            assert {key: event["healthCheck"][key] for key in CHECK} == CHECK


def of_instances(events):
    """What is told of each instance, in order."""
    told = {}
    for event in events:
        instance = event.get("instanceId") or event.get("taskId", "").removesuffix("._app.1")
        if instance:
            told.setdefault(instance, []).append(short(event))
    return told


def of_others(events):
    """What is told of no single instance, in order; the answer to a client may come before or after its consequences."""
    rest = [short(event) for event in events if "instanceId" not in event and "taskId" not in event]
    return [each for each in rest if each != "api_post_event"], rest.count("api_post_event")


BORN = [
    "instance_changed_event Provisioned",
    "status_update_event TASK_STARTING", "instance_changed_event Starting",
    "status_update_event TASK_RUNNING", "instance_changed_event Running",
    "health_status_changed_event True", "instance_health_changed_event True",
]
KILLED = [
    "status_update_event TASK_KILLING", "instance_changed_event Killing",
    "status_update_event TASK_KILLED", "instance_changed_event Killed",
]
FAILED = ["status_update_event TASK_FAILED", "instance_changed_event Failed"]
UNHEALTHY = [
    "failed_health_check_event", "health_status_changed_event False", "instance_health_changed_event False",
    "failed_health_check_event", "unhealthy_instance_kill_event",
]


def planned(*steps):
    """What is told of a deployment of these steps, from beginning to end."""
    told = ["group_change_success"]
    for step in steps:
        told += [f"deployment_info {step}", f"deployment_step_success {step}"]
    return [*told, "deployment_success"]


def test_a_day(day):
    app = day("POST", "/v2/apps", DAY)
    events = day.deployed("the creation", app["deployments"][0]["id"])
    check(events)
    others, posts = of_others(events)
    wanted = planned("StartApplication", "ScaleApplication")
    assert others == ["event_stream_attached", wanted[0], "add_health_check_event", *wanted[1:]] and posts == 1
    assert list(of_instances(events).values()) == [BORN]

    scaled = day("PUT", "/v2/apps/day", {"instances": 2})
    events = day.deployed("the scaling", scaled["deploymentId"])
    check(events)
    assert of_others(events) == (planned("ScaleApplication"), 1)
    assert list(of_instances(events).values()) == [BORN]

    # It exits by itself, and another one comes.
    first, second = day.tasks()
    (day.sandbox(first) / "stop").touch()
    healthy = "instance_health_changed_event True"
    events = day.listener.until("the recovery", lambda events: healthy in map(short, events))
    check(events)
    assert of_others(events) == ([], 0)
    told = of_instances(events)
    gone = first.removesuffix("._app.1")
    # Its last check may have found nobody there before the agent told its end.
    assert [each for each in told.pop(gone) if "health" not in each] == FAILED
    assert list(told.values()) == [BORN]
    [failed] = [event for event in events if event.get("taskStatus") == "TASK_FAILED"]
    assert failed["message"] == "Command exited with status 3"

    # Its check fails twice, it is killed for that, and another one comes.
    (day.sandbox(second) / "ok").unlink()
    events = day.listener.until("the recovery", lambda events: healthy in map(short, events))
    check(events)
    assert of_others(events) == ([], 0)
    told = of_instances(events)
    gone = told.pop(second.removesuffix("._app.1"))
    # Its check goes on until it is gone.
    assert gone[:5] == UNHEALTHY
    assert [each for each in gone[5:] if "health" not in each] == KILLED
    assert list(told.values()) == [BORN]

    before = {task.removesuffix("._app.1") for task in day.tasks()}
    upgraded = day("PUT", "/v2/apps/day", {"env": {"RELEASE": "2"}})
    events = day.deployed("the upgrade", upgraded["deploymentId"])
    check(events)
    assert of_others(events) == (planned("RestartApplication"), 1)
    told = of_instances(events)
    # A check may be under way when its instance is to end.
    killed = [[each for each in told.pop(instance) if "health" not in each] for instance in before]
    assert (killed, list(told.values())) == ([KILLED] * 2, [BORN] * 2)

    # A release that does not work: each of its instances fails, and none of the old ones goes.
    good = set(day.tasks())
    bad = day("PUT", "/v2/apps/day", {"cmd": "exit 1"})
    events = day.listener.until("a failure", lambda events: FAILED[1] in map(short, events))
    day.listener.begin -= len(events)
    undone = day("DELETE", f"/v2/deployments/{bad['deploymentId']}")
    events = day.deployed("the roll-back", undone["deploymentId"])
    check(events)
    others, posts = of_others(events)
    step = "deployment_info RestartApplication"
    assert others == ["group_change_success", step, "deployment_failed", *planned("RestartApplication")] and posts == 1
    ended = [event["id"] for event in events if event["eventType"].startswith("deployment_") and "id" in event]
    assert ended == [bad["deploymentId"], undone["deploymentId"]]
    for instance, each in of_instances(events).items():
        assert instance + "._app.1" not in good
        # One that was killed before it was told to start has no more to tell.
        assert each[0] == BORN[0] and each[-2:] in (FAILED, KILLED[-2:]), each
        assert each[:3] == BORN[:3] or not set(BORN[1:]) & set(each), each
    assert set(day.tasks()) == good

    deleted = day("DELETE", "/v2/apps/day")
    events = day.deployed("the deletion", deleted["deploymentId"])
    check(events)
    wanted = planned("StopApplication")
    others, posts = of_others(events)
    assert others == [wanted[0], "remove_health_check_event", *wanted[1:3], "app_terminated_event", wanted[3]]
    assert posts == 0
    told = {instance: [each for each in told if "health" not in each] for instance, told in of_instances(events).items()}
    assert told == {task.removesuffix("._app.1"): KILLED for task in good}
