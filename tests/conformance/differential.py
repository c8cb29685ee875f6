"""The same calls, good and bad, to any master; what it answers, made comparable.

`python differential.py HOST:PORT FILE` records the answers of a master with one agent:
that is how `recorded/mesos-1.11.json` was made from an original one.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

JSON = {"Content-Type": "application/json", "Accept": "application/json"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
FRAMEWORK = {"user": "root", "name": "differential", "roles": ["differential"],
             "capabilities": [{"type": "MULTI_ROLE"}], "failover_timeout": 60.0}
# What a read of state looks like depends on the time since start and on configuration.
VOLATILE_KEYS = re.compile(r"flags|metrics|resources|_resources|attributes")


class Master:
    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.host, self.port = host, int(port)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None):
        connection = self.connect()
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        connection.request(method, path, body=data, headers=headers or {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer, text


class Stream:
    """An open subscription."""

    def __init__(self, master: Master, path: str, call: dict, headers: dict[str, str]) -> None:
        self.connection = master.connect()
        self.connection.request("POST", path, body=json.dumps(call), headers=headers)
        self.answer = self.connection.getresponse()
        self.stream_id = self.answer.getheader("Mesos-Stream-Id")

    def event(self) -> dict:
        length = b""
        while not length.endswith(b"\n"):
            byte = self.answer.read(1)
            if not byte:
                raise EOFError("the stream ended")
            length += byte
        return json.loads(self.answer.read(int(length)))

    def until(self, kind: str) -> dict:
        while (event := self.event())["type"] != kind:
            pass
        return event

    def close(self) -> None:
        self.connection.close()


def settle(what: str, condition: Callable[[], bool]) -> None:
    """Waits for what a master or an agent comes to know a moment after it answered."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def executors(node: Master) -> bool:
    """Whether an agent has any; it learns of their ends later than a framework does of its tasks'."""
    return any(framework["executors"] for framework in json.loads(node.ask("GET", "/slave(1)/state")[1])["frameworks"])


def pending(master: Master) -> bool:
    """Whether an operation is that its agent has not made durable yet."""
    return json.loads(master.ask("POST", "/api/v1", {"type": "GET_OPERATIONS"}, JSON)[1])["get_operations"] != {}


def connected(master: Master) -> bool:
    """Whether any framework is."""
    return any(framework["connected"] for framework in json.loads(master.ask("GET", "/frameworks")[1])["frameworks"])


def shape(value: Any, key: str = "") -> Any:
    """Keys and types: what a client's parser depends on. Lists show the shape of their first item."""
    if isinstance(value, dict):
        if VOLATILE_KEYS.fullmatch(key):
            return "object"
        return {name: shape(item, name) for name, item in sorted(value.items())}
    if isinstance(value, list) and key.endswith(("resources", "resources_full")):
        # Which resource stands first is nobody's business.
        return ["resource"] if value else []
    if isinstance(value, list):
        return [shape(value[0], key)] if value else []
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else None


def comparable(answer: http.client.HTTPResponse, text: bytes, ids: dict[str, str]) -> dict:
    body: Any = text.decode(errors="replace")
    try:
        body = {"json": shape(json.loads(text))} if text else ""
        if text.startswith(b'{"/'):
            body = {"json": "paths"}
        elif text.startswith(b'[{"events"'):
            body = {"json": "processes"}
    except ValueError:
        if text.startswith(b"<"):
            body = "a page"
        for name, value in ids.items():
            body = body.replace(value, f"<{name}>")
        body = UUID.sub("<uuid>", re.sub(r"127\.0\.0\.1:\d+", "<address>", body))
    record = {"status": answer.status, "body": body}
    for header in ("Content-Type", "Allow", "WWW-Authenticate"):
        if value := answer.getheader(header):
            record[header] = value
    if answer.getheader("Mesos-Stream-Id"):
        record["Mesos-Stream-Id"] = "present"
    if value := answer.getheader("Location"):
        record["Location"] = re.sub(r"127\.0\.0\.1:\d+", "<address>", value)
    return record


def scheduler_calls(ids: dict[str, str]) -> list[tuple[str, Any, dict[str, str]]]:
    """Name, body and headers of each call to `/api/v1/scheduler`, with a framework subscribed."""
    framework = {"value": ids["framework"]}
    live = {**JSON, "Mesos-Stream-Id": ids["stream"]}

    def call(kind: str, **fields: Any) -> dict:
        return {"type": kind, "framework_id": framework, **fields}

    agent, task = {"value": ids["agent"]}, {"value": "no-such-task"}
    return [
        ("no content type", call("SUPPRESS"), {}),
        ("unknown content type", call("SUPPRESS"), {**live, "Content-Type": "text/plain"}),
        ("content type with charset", call("SUPPRESS"),
         {**live, "Content-Type": "application/json; charset=utf-8"}),
        ("not JSON", "{", live),
        ("JSON but no object", "[]", live),
        ("empty object", {}, live),
        ("no type", {"framework_id": framework}, live),
        ("unknown type", call("FLY"), live),
        ("no framework id", {"type": "SUPPRESS"}, live),
        ("unknown framework", {"type": "SUPPRESS", "framework_id": {"value": "x"}}, live),
        ("no stream id", call("SUPPRESS"), JSON),
        ("wrong stream id", call("SUPPRESS"), {**JSON, "Mesos-Stream-Id": "wrong"}),
        ("protobuf that is none", b"\xff\xff\xff", {**live, "Content-Type": "application/x-protobuf"}),
        ("subscribe without subscribe", {"type": "SUBSCRIBE"}, JSON),
        ("subscribe with a stream id", {"type": "SUBSCRIBE", "subscribe": {"framework_info": FRAMEWORK}}, live),
        ("subscribe that accepts text", {"type": "SUBSCRIBE", "subscribe": {"framework_info": FRAMEWORK}},
         {"Content-Type": "application/json", "Accept": "text/html"}),
        ("subscribe lacking user", {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}}, JSON),
        ("subscribe with two ids", {"type": "SUBSCRIBE", "framework_id": framework, "subscribe": {
            "framework_info": {**FRAMEWORK, "id": {"value": "other"}}}}, JSON),
        ("accept without accept", call("ACCEPT"), live),
        ("accept of an unknown offer", call("ACCEPT", accept={"offer_ids": [{"value": "x"}]}), live),
        ("decline without decline", call("DECLINE"), live),
        ("decline of an unknown offer", call("DECLINE", decline={"offer_ids": [{"value": "x"}]}), live),
        ("suppress", call("SUPPRESS"), live),
        ("suppress of a foreign role", call("SUPPRESS", suppress={"roles": ["other"]}), live),
        ("revive", call("REVIVE"), live),
        ("revive of an invalid role", call("REVIVE", revive={"roles": ["/x"]}), live),
        ("kill without kill", call("KILL"), live),
        ("kill of an unknown task", call("KILL", kill={"task_id": task}), live),
        ("shutdown without shutdown", call("SHUTDOWN"), live),
        ("shutdown", call("SHUTDOWN", shutdown={"executor_id": {"value": "x"}, "agent_id": agent}), live),
        ("acknowledge without acknowledge", call("ACKNOWLEDGE"), live),
        ("acknowledge", call("ACKNOWLEDGE", acknowledge={
            "agent_id": agent, "task_id": task, "uuid": "AAAAAAAAQACAAAAAAAAAAA=="}), live),
        ("acknowledge with a bad uuid", call("ACKNOWLEDGE", acknowledge={
            "agent_id": agent, "task_id": task, "uuid": "AAAA"}), live),
        ("acknowledge with no base64", call("ACKNOWLEDGE", acknowledge={
            "agent_id": agent, "task_id": task, "uuid": "?"}), live),
        ("reconcile without reconcile", call("RECONCILE"), live),
        ("reconcile", call("RECONCILE", reconcile={"tasks": []}), live),
        ("message without message", call("MESSAGE"), live),
        ("message", call("MESSAGE", message={
            "agent_id": agent, "executor_id": {"value": "x"}, "data": "YQ=="}), live),
        ("request", call("REQUEST", request={"requests": []}), live),
        *((f"{kind.lower()} without its part", call(kind), live) for kind in (
            "ACCEPT_INVERSE_OFFERS", "DECLINE_INVERSE_OFFERS", "ACKNOWLEDGE_OPERATION_STATUS",
            "RECONCILE_OPERATIONS", "UPDATE_FRAMEWORK")),
        ("accept of an unknown inverse offer", call("ACCEPT_INVERSE_OFFERS", accept_inverse_offers={
            "inverse_offer_ids": [{"value": "x"}]}), live),
        ("decline of an unknown inverse offer", call("DECLINE_INVERSE_OFFERS", decline_inverse_offers={
            "inverse_offer_ids": [{"value": "x"}]}), live),
        ("acknowledge of no operation", call("ACKNOWLEDGE_OPERATION_STATUS", acknowledge_operation_status={
            "agent_id": agent, "operation_id": {"value": "x"}, "uuid": "AAAAAAAAQACAAAAAAAAAAA=="}), live),
        ("acknowledge of an operation with a bad uuid", call(
            "ACKNOWLEDGE_OPERATION_STATUS", acknowledge_operation_status={
                "agent_id": agent, "operation_id": {"value": "x"}, "uuid": "AAAA"}), live),
        ("reconcile operations", call("RECONCILE_OPERATIONS", reconcile_operations={"operations": []}), live),
        ("update of another framework", call("UPDATE_FRAMEWORK", update_framework={
            "framework_info": {**FRAMEWORK, "id": {"value": "other"}}}), live),
        ("update of a framework without an id", call("UPDATE_FRAMEWORK", update_framework={
            "framework_info": FRAMEWORK}), live),
        ("update of a framework's user", call("UPDATE_FRAMEWORK", update_framework={
            "framework_info": {**FRAMEWORK, "id": framework, "user": "nobody"}}), live),
        ("update of a framework", call("UPDATE_FRAMEWORK", update_framework={
            "framework_info": {**FRAMEWORK, "id": framework}}), live),
        ("unknown fields", call("SUPPRESS", later={"a": 1}), live),
        ("numbers in strings", call("DECLINE", decline={
            "offer_ids": [{"value": "x"}], "filters": {"refuse_seconds": "7.5"}}), live),
    ]


READS = [
    "/state", "/master/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/tasks?limit=1",
    "/roles", "/version", "/health", "/flags", "/redirect", "/state.json", "/no-such-route",
    "/master/no-such-route", "/files/browse", "/files/browse?path=/no/such", "/files/read",
    "/files/read?path=/no/such", "/files/download", "/files/download?path=/no/such", "/files/debug",
    "/weights", "/slaves?slave_id=none", "/frameworks?framework_id=none", "/version?jsonp=call",
]
# What every libprocess process serves.
SHARED_READS = [
    "/logging/toggle", "/logging/toggle?level=1", "/logging/toggle?duration=1secs",
    "/logging/toggle?level=-1&duration=1secs", "/logging/toggle?level=x&duration=1secs",
    "/logging/toggle?level=0&duration=1secs", "/system/stats.json", "/system/stats",
    "/metrics/snapshot?timeout=x", "/help", "/__processes__", "/profiler/start", "/profiler/stop",
    "/memory-profiler/state", "/",
]
MORE_READS = [
    "/maintenance/schedule", "/maintenance/status", "/quota", "/machine/down", "/machine/up", "/reserve",
    "/unreserve", "/create-volumes", "/destroy-volumes", "/master/quota",
    "/hierarchical-allocator(1)/offer_constraints_debug", "/registrar(1)/registry",
]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MACHINE = {"hostname": "no-such-machine", "ip": "127.0.0.9"}
WRITES = [
    ("POST /quota, not JSON", "POST", "/quota", "{", JSON),
    ("POST /quota, no role", "POST", "/quota", {"guarantee": []}, JSON),
    ("DELETE /quota of none", "DELETE", "/quota/none", None, {}),
    ("PUT /weights, not JSON", "PUT", "/weights", "{", JSON),
    ("PUT /weights, bad role", "PUT", "/weights", [{"role": "/x", "weight": 2.0}], JSON),
    ("PUT /weights, negative", "PUT", "/weights", [{"role": "x", "weight": -2.0}], JSON),
    ("PUT /weights", "PUT", "/weights", [{"role": "x", "weight": 2.0}], JSON),
    *((f"POST {path}, {what}", "POST", path, body, FORM)
      for path in ("/reserve", "/unreserve", "/create-volumes", "/destroy-volumes")
      for what, body in (("no form", ""), ("no resources", "slaveId=x"),
                         ("not JSON", "slaveId=x&resources={&volumes={"),
                         ("unknown agent", "slaveId=x&resources=[]&volumes=[]"))),
    ("POST /maintenance/schedule, not JSON", "POST", "/maintenance/schedule", "{", JSON),
    ("POST /maintenance/schedule, empty window", "POST", "/maintenance/schedule", {
        "windows": [{"machine_ids": [], "unavailability": {"start": {"nanoseconds": 1}}}]}, JSON),
    ("POST /maintenance/schedule, twice a machine", "POST", "/maintenance/schedule", {
        "windows": [{"machine_ids": [MACHINE, MACHINE], "unavailability": {"start": {"nanoseconds": 1}}}]}, JSON),
    ("POST /maintenance/schedule", "POST", "/maintenance/schedule", {
        "windows": [{"machine_ids": [MACHINE], "unavailability": {"start": {"nanoseconds": 4102444800000000000}}}]}, JSON),
    ("GET /maintenance/schedule with a window", "GET", "/maintenance/schedule", None, {}),
    ("GET /maintenance/status with a window", "GET", "/maintenance/status", None, {}),
    ("POST /machine/down, not JSON", "POST", "/machine/down", "{", JSON),
    ("POST /machine/down, none", "POST", "/machine/down", [], JSON),
    ("POST /machine/down, not scheduled", "POST", "/machine/down", [{"hostname": "other", "ip": "127.0.0.8"}], JSON),
    ("POST /machine/down", "POST", "/machine/down", [MACHINE], JSON),
    ("POST /machine/down again", "POST", "/machine/down", [MACHINE], JSON),
    ("GET /maintenance/status of a machine that is down", "GET", "/maintenance/status", None, {}),
    ("POST /machine/up, not down", "POST", "/machine/up", [{"hostname": "other", "ip": "127.0.0.8"}], JSON),
    ("POST /machine/up", "POST", "/machine/up", [MACHINE], JSON),
    ("GET /maintenance/schedule afterwards", "GET", "/maintenance/schedule", None, {}),
]
# Each of them without the part that says what it is about. Not asked, since the original dies of it:
# REMOVE_QUOTA of a role that has none.
OPERATOR_PARTS = [
    "GET_METRICS", "SET_LOGGING_LEVEL", "LIST_FILES", "READ_FILE", "UPDATE_MAINTENANCE_SCHEDULE",
    "START_MAINTENANCE", "STOP_MAINTENANCE", "SET_QUOTA", "UPDATE_QUOTA", "REMOVE_QUOTA", "UPDATE_WEIGHTS",
    "RESERVE_RESOURCES", "UNRESERVE_RESOURCES", "CREATE_VOLUMES", "DESTROY_VOLUMES", "GROW_VOLUME",
    "SHRINK_VOLUME", "MARK_AGENT_GONE", "DRAIN_AGENT", "DEACTIVATE_AGENT", "REACTIVATE_AGENT", "TEARDOWN",
]
UNKNOWN_AGENT = {"agent_id": {"value": "no-such-agent"}}
OPERATOR_BODIES = [
    {"type": "GET_METRICS", "get_metrics": {"timeout": {"nanoseconds": 1000000000}}},
    {"type": "SET_LOGGING_LEVEL", "set_logging_level": {"level": 0, "duration": {"nanoseconds": 1000000}}},
    {"type": "GET_QUOTA"}, {"type": "GET_MAINTENANCE_STATUS"}, {"type": "GET_MAINTENANCE_SCHEDULE"},
    {"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": []}},
    {"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [{"role": "/x"}]}},
    {"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [
        {"role": "x", "guarantees": {"cpus": {"value": 2}}, "limits": {"cpus": {"value": 1}}}]}},
    {"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [
        {"role": "x", "limits": {"cpus": {"value": 1}}}]}},
    {"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"role": "x", "weight": 0.0}]}},
    {"type": "RESERVE_RESOURCES", "reserve_resources": {**UNKNOWN_AGENT, "resources": []}},
    {"type": "UNRESERVE_RESOURCES", "unreserve_resources": {**UNKNOWN_AGENT, "resources": []}},
    {"type": "CREATE_VOLUMES", "create_volumes": {**UNKNOWN_AGENT, "volumes": []}},
    {"type": "DESTROY_VOLUMES", "destroy_volumes": {**UNKNOWN_AGENT, "volumes": []}},
    {"type": "MARK_AGENT_GONE", "mark_agent_gone": UNKNOWN_AGENT},
    {"type": "DRAIN_AGENT", "drain_agent": UNKNOWN_AGENT},
    {"type": "DEACTIVATE_AGENT", "deactivate_agent": UNKNOWN_AGENT},
    {"type": "REACTIVATE_AGENT", "reactivate_agent": UNKNOWN_AGENT},
    {"type": "START_MAINTENANCE", "start_maintenance": {"machines": []}},
    {"type": "STOP_MAINTENANCE", "stop_maintenance": {"machines": []}},
]
AGENT_PARTS = [
    "GET_METRICS", "SET_LOGGING_LEVEL", "LIST_FILES", "READ_FILE", "LAUNCH_NESTED_CONTAINER",
    "WAIT_NESTED_CONTAINER", "KILL_NESTED_CONTAINER", "REMOVE_NESTED_CONTAINER",
    "LAUNCH_NESTED_CONTAINER_SESSION", "ATTACH_CONTAINER_INPUT", "ATTACH_CONTAINER_OUTPUT", "LAUNCH_CONTAINER",
    "WAIT_CONTAINER", "KILL_CONTAINER", "REMOVE_CONTAINER", "ADD_RESOURCE_PROVIDER_CONFIG",
    "UPDATE_RESOURCE_PROVIDER_CONFIG", "REMOVE_RESOURCE_PROVIDER_CONFIG", "MARK_RESOURCE_PROVIDER_GONE",
]
# Not asked, since the original dies of it: REMOVE_CONTAINER of none, and `/containerizer/debug`.
NESTED = {"container_id": {"value": "x", "parent": {"value": "y"}}}
AGENT_BODIES = [
    {"type": "GET_METRICS", "get_metrics": {"timeout": {"nanoseconds": 1000000000}}},
    {"type": "SET_LOGGING_LEVEL", "set_logging_level": {"level": 0, "duration": {"nanoseconds": 1000000}}},
    {"type": "LIST_FILES", "list_files": {"path": "/no/such"}},
    {"type": "READ_FILE", "read_file": {"path": "/no/such", "offset": 0}},
    {"type": "GET_CONTAINERS"},
    {"type": "GET_CONTAINERS", "get_containers": {"show_nested": True, "show_standalone": True}},
    {"type": "GET_RESOURCE_PROVIDERS"}, {"type": "PRUNE_IMAGES"},
    {"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"container_id": {"value": "x"}}},
    {"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": NESTED},
    {"type": "KILL_NESTED_CONTAINER", "kill_nested_container": {"container_id": {"value": "x"}}},
    {"type": "KILL_NESTED_CONTAINER", "kill_nested_container": NESTED},
    {"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {"container_id": {"value": "x"}}},
    {"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {**NESTED, "command": {"value": "true"}}},
    {"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "x y"}}},
    {"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a.b"}}},
    {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": {"value": "x"}}},
    {"type": "UNKNOWN"},
]
OPERATOR = ["GET_HEALTH", "GET_FLAGS", "GET_VERSION", "GET_METRICS", "GET_LOGGING_LEVEL", "GET_STATE",
            "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_TASKS", "GET_ROLES", "GET_WEIGHTS",
            "GET_MASTER", "GET_OPERATIONS"]


AGENT_READS = ["state", "containers", "monitor/statistics", "flags", "health", "version", "no-such-route",
               "files/browse?path=/no/such", "files/debug"]
AGENT_OPERATOR = ["GET_HEALTH", "GET_FLAGS", "GET_VERSION", "GET_LOGGING_LEVEL", "GET_STATE", "GET_FRAMEWORKS",
                  "GET_EXECUTORS", "GET_TASKS", "GET_AGENT", "GET_OPERATIONS", "GET_CONTAINERS"]


def with_a_task(records: dict[str, dict], master: Master, stream: Stream, offer: dict, ids: dict[str, str]) -> None:
    """Launches a task and looks at it from all sides: running, and after it was killed."""
    headers = {**JSON, "Mesos-Stream-Id": ids["stream"]}
    framework = {"value": ids["framework"]}
    agent = {"value": ids["agent"]}

    def call(kind: str, **fields: Any) -> None:
        answer, text = master.ask(
            "POST", "/api/v1/scheduler", {"type": kind, "framework_id": framework, **fields}, headers)
        assert answer.status == 202, text

    def updates(last: str) -> list[dict]:
        seen = []
        while not seen or seen[-1]["state"] != last:
            status = stream.until("UPDATE")["update"]["status"]
            if "uuid" in status:
                call("ACKNOWLEDGE", acknowledge={
                    "agent_id": agent, "task_id": status["task_id"], "uuid": status["uuid"]})
            # The original's own executor is a stand-in here: what it adds is not compared.
            seen.append({"state": status["state"], "source": status.get("source"),
                         "reason": status.get("reason"), "uuid": "uuid" in status})
        return seen

    resources = [{"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": "differential"}}
                 for name, value in (("cpus", 0.1), ("mem", 32.0))]
    task = {"task_id": {"value": "watched"}, "agent_id": agent, "name": "watched", "resources": resources,
            "command": {"value": "sleep 600"}, "labels": {"labels": [{"key": "a", "value": "b"}]}}
    call("ACCEPT", accept={"offer_ids": [offer["id"]], "operations": [
        {"type": "LAUNCH", "launch": {"task_infos": [task]}}], "filters": {"refuse_seconds": 0.1}})
    records["updates of a task that runs"] = {"last": updates("TASK_RUNNING")[-1]}

    pid = json.loads(master.ask("GET", "/slaves")[1])["slaves"][0]["pid"]
    node = Master(pid.split("@")[1])
    for moment in ("a running task", "a killed task"):
        for path in ("/state", "/tasks", "/frameworks", "/state-summary", "/slaves", "/tasks?task_id=watched"):
            answer, text = master.ask("GET", path)
            records[f"GET {path} with {moment}"] = comparable(answer, text, ids)
        for kind in ("GET_STATE", "GET_TASKS", "GET_EXECUTORS"):
            answer, text = master.ask("POST", "/api/v1", {"type": kind}, JSON)
            records[f"operator {kind} with {moment}"] = comparable(answer, text, ids)
        for path in AGENT_READS:
            answer, text = node.ask("GET", f"/slave(1)/{path}" if "files" not in path else f"/{path}")
            records[f"agent GET {path} with {moment}"] = comparable(answer, text, ids)
        for kind in AGENT_OPERATOR:
            body: dict[str, Any] = {"type": kind}
            if kind == "GET_CONTAINERS":
                body["get_containers"] = {}
            answer, text = node.ask("POST", "/slave(1)/api/v1", body, JSON)
            records[f"agent operator {kind} with {moment}"] = comparable(answer, text, ids)
        if moment == "a running task":
            call("KILL", kill={"task_id": task["task_id"]})
            records["updates of a task that is killed"] = {"last": updates("TASK_KILLED")[-1]}
            settle("the end of its executor", lambda: not executors(node))
    for kind in AGENT_PARTS:
        answer, text = node.ask("POST", "/slave(1)/api/v1", {"type": kind}, JSON)
        records[f"agent operator {kind} without its part"] = comparable(answer, text, ids)
    for number, body in enumerate(AGENT_BODIES):
        answer, text = node.ask("POST", "/slave(1)/api/v1", body, JSON)
        records[f"agent operator {body['type']} #{number}"] = comparable(answer, text, ids)
    for path in SHARED_READS:
        answer, text = node.ask("GET", path)
        records[f"agent GET {path}"] = comparable(answer, text, ids)
    for path in ("/slave(1)/state?jsonp=f", "/slave(1)/api/v1", "/slave(1)/api/v1/resource_provider",
                 "/slave(1)/monitor/statistics.json", "/slave(1)/containers?container_id=x"):
        answer, text = node.ask("GET", path)
        records[f"agent GET {path}"] = comparable(answer, text, ids)
    for name, method, path, body, headers in [
        ("executor: GET", "GET", "/slave(1)/api/v1/executor", None, {}),
        ("executor: not JSON", "POST", "/slave(1)/api/v1/executor", "{", JSON),
        ("executor: no content type", "POST", "/slave(1)/api/v1/executor", {}, {}),
        ("executor: text", "POST", "/slave(1)/api/v1/executor", {}, {**JSON, "Content-Type": "text/plain"}),
        ("executor: empty object", "POST", "/slave(1)/api/v1/executor", {}, JSON),
        ("executor: unknown framework", "POST", "/slave(1)/api/v1/executor", {
            "type": "MESSAGE", "framework_id": {"value": "x"}, "executor_id": {"value": "x"},
            "message": {"data": "YQ=="}}, JSON),
        ("executor: unknown executor", "POST", "/slave(1)/api/v1/executor", {
            "type": "MESSAGE", "framework_id": framework, "executor_id": {"value": "x"},
            "message": {"data": "YQ=="}}, JSON),
        ("agent operator: unknown type", "POST", "/slave(1)/api/v1", {"type": "FLY"}, JSON),
        ("agent operator: wait for none", "POST", "/slave(1)/api/v1", {
            "type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "x"}}}, JSON),
        ("agent operator: kill none", "POST", "/slave(1)/api/v1", {
            "type": "KILL_CONTAINER", "kill_container": {"container_id": {"value": "x"}}}, JSON),
    ]:
        answer, text = node.ask(method, path, body, headers)
        records[name] = comparable(answer, text, ids)


def reserved(name: str, value: float, role: str = "differential", **more: Any) -> dict:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value},
            "reservations": [{"type": "DYNAMIC", "role": role}], **more}


def on_disk(value: float, volume: str = "v", **more: Any) -> dict:
    return reserved("disk", value, disk={
        "persistence": {"id": volume}, "volume": {"container_path": "data", "mode": "RW"}}, **more)


def operator_reservations(records: dict[str, dict], master: Master) -> None:
    """Reservations and volumes by operators, good and bad, while nobody is subscribed."""
    (slave,) = json.loads(master.ask("GET", "/slaves")[1])["slaves"]
    ids = {"agent": slave["id"], "pid": slave["pid"]}
    agent = {"value": slave["id"]}

    def note(name: str, *request: Any) -> None:
        answer, text = master.ask(*request)
        records[f"reservations: {name}"] = comparable(answer, text, ids)

    def call(name: str, kind: str, **fields: Any) -> None:
        note(name, "POST", "/api/v1", {"type": kind, kind.lower(): {"agent_id": agent, **fields}}, JSON)

    def form(name: str, path: str, **fields: Any) -> None:
        encoded = {key: json.dumps(value) if isinstance(value, list) else value for key, value in fields.items()}
        note(f"{path} {name}", "POST", path, urllib.parse.urlencode(encoded))

    plain = {key: value for key, value in reserved("cpus", 1.0).items() if key != "reservations"}
    other = {"value": "x"}
    for kind, field in (("RESERVE_RESOURCES", "resources"), ("UNRESERVE_RESOURCES", "resources"),
                        ("CREATE_VOLUMES", "volumes"), ("DESTROY_VOLUMES", "volumes")):
        note(f"{kind} without fields", "POST", "/api/v1", {"type": kind}, JSON)
        call(f"{kind} of an unknown agent", kind, agent_id=other, **{field: [on_disk(1.0)]})
        call(f"{kind} of nothing", kind, **{field: []})
        call(f"{kind} of what is not reserved", kind, **{field: [plain]})
        call(f"{kind} of a negative amount", kind, **{field: [reserved("cpus", -1.0)]})
    for kind in ("GROW_VOLUME", "SHRINK_VOLUME"):
        note(f"{kind} without fields", "POST", "/api/v1", {"type": kind}, JSON)
    static = reserved("cpus", 1.0)
    static["reservations"] = [{"type": "STATIC", "role": "differential"}]
    call("RESERVE_RESOURCES that is static", "RESERVE_RESOURCES", resources=[static])
    call("RESERVE_RESOURCES for *", "RESERVE_RESOURCES", resources=[reserved("cpus", 1.0, "*")])
    allocated = reserved("cpus", 1.0, allocation_info={"role": "differential"})
    call("RESERVE_RESOURCES of allocated ones", "RESERVE_RESOURCES", resources=[allocated])
    old = {**plain, "role": "differential", "reservation": {}}
    call("RESERVE_RESOURCES in the old format", "RESERVE_RESOURCES", resources=[old])
    call("UNRESERVE_RESOURCES in the old format", "UNRESERVE_RESOURCES", resources=[old])
    refined = reserved("cpus", 1.0)
    refined["reservations"].append({"type": "DYNAMIC", "role": "differential/a"})
    call("RESERVE_RESOURCES", "RESERVE_RESOURCES", resources=[reserved("cpus", 1.0), reserved("disk", 64.0)])
    call("RESERVE_RESOURCES, refined", "RESERVE_RESOURCES", resources=[refined])
    call("RESERVE_RESOURCES, refined by a stranger", "RESERVE_RESOURCES", resources=[
        {**refined, "reservations": [refined["reservations"][0], {"type": "DYNAMIC", "role": "b"}]}])
    call("UNRESERVE_RESOURCES, refined", "UNRESERVE_RESOURCES", resources=[refined])
    moved = reserved("cpus", 1.0, "other")
    call("RESERVE_RESOURCES from a source", "RESERVE_RESOURCES", source=[reserved("cpus", 1.0)], resources=[moved])
    call("RESERVE_RESOURCES from another amount", "RESERVE_RESOURCES", source=[moved], resources=[reserved("cpus", 2.0)])
    call("RESERVE_RESOURCES back to the source", "RESERVE_RESOURCES", source=[moved], resources=[reserved("cpus", 1.0)])
    call("CREATE_VOLUMES", "CREATE_VOLUMES", volumes=[on_disk(32.0)])
    call("CREATE_VOLUMES with the same id", "CREATE_VOLUMES", volumes=[on_disk(8.0)])
    call("CREATE_VOLUMES of a bad id", "CREATE_VOLUMES", volumes=[on_disk(8.0, "a/b")])
    call("CREATE_VOLUMES of a plain disk", "CREATE_VOLUMES", volumes=[reserved("disk", 8.0)])
    read_only = on_disk(8.0, "w")
    read_only["disk"]["volume"]["mode"] = "RO"
    call("CREATE_VOLUMES, read-only", "CREATE_VOLUMES", volumes=[read_only])
    call("UNRESERVE_RESOURCES of a volume", "UNRESERVE_RESOURCES", resources=[on_disk(32.0)])
    call("DESTROY_VOLUMES of an unknown volume", "DESTROY_VOLUMES", volumes=[on_disk(1.0, "w")])
    call("GROW_VOLUME", "GROW_VOLUME", volume=on_disk(32.0), addition=reserved("disk", 8.0))
    call("GROW_VOLUME by nothing", "GROW_VOLUME", volume=on_disk(40.0), addition=reserved("disk", 0.0))
    call("GROW_VOLUME by cpus", "GROW_VOLUME", volume=on_disk(40.0), addition=reserved("cpus", 1.0))
    call("SHRINK_VOLUME by all", "SHRINK_VOLUME", volume=on_disk(40.0), subtract={"value": 40.0})
    call("SHRINK_VOLUME by nothing", "SHRINK_VOLUME", volume=on_disk(40.0), subtract={"value": 0})
    call("SHRINK_VOLUME", "SHRINK_VOLUME", volume=on_disk(40.0), subtract={"value": 8.0})
    note("GROW_VOLUME without an agent", "POST", "/api/v1", {"type": "GROW_VOLUME", "grow_volume": {
        "volume": on_disk(32.0), "addition": reserved("disk", 8.0)}}, JSON)
    settle("the end of all operations", lambda: not pending(master))
    for path in ("/state", "/slaves", "/roles", "/state-summary"):
        note(f"GET {path} with a volume", "GET", path)
    for kind in ("GET_AGENTS", "GET_ROLES", "GET_OPERATIONS"):
        note(f"{kind} with a volume", "POST", "/api/v1", {"type": kind}, JSON)
    node = Master(slave["pid"].split("@")[1])
    answer, text = node.ask("GET", "/slave(1)/state")
    records["reservations: agent GET state with a volume"] = comparable(answer, text, ids)
    for path, field in (("/reserve", "resources"), ("/unreserve", "resources"),
                        ("/create-volumes", "volumes"), ("/destroy-volumes", "volumes")):
        note(f"GET {path}", "GET", path)
        note(f"{path} without a form", "POST", path, "")
        form("without resources", path, slaveId=slave["id"])
        form("of an unknown agent", path, slaveId="x", **{field: [on_disk(1.0)]})
        form("of nothing", path, slaveId=slave["id"], **{field: []})
    form("of a volume", "/destroy-volumes", slaveId=slave["id"], volumes=[on_disk(32.0)])
    form("of all", "/unreserve", slaveId=slave["id"], resources=[reserved("cpus", 1.0), reserved("disk", 64.0)])
    settle("the end of all operations", lambda: not pending(master))
    # Which resources it lacks depends on the node.
    answer, _ = master.ask("POST", "/api/v1", {"type": "RESERVE_RESOURCES", "reserve_resources": {
        "agent_id": agent, "resources": [reserved("cpus", 100000.0)]}}, JSON)
    records["reservations: RESERVE_RESOURCES of more than there is"] = {"status": answer.status}
    note("GET /slaves without volumes again", "GET", "/slaves")


def framework_operations(records: dict[str, dict], master: Master) -> None:
    """Operations with an id in ACCEPT: what the framework hears of good and bad ones."""
    info = {**FRAMEWORK, "name": "operations", "principal": "ops", "capabilities": [
        {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]}
    stream = Stream(master, "/api/v1/scheduler", {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}, JSON)
    framework = stream.until("SUBSCRIBED")["subscribed"]["framework_id"]
    offer = stream.until("OFFERS")["offers"]["offers"][0]
    (slave,) = json.loads(master.ask("GET", "/slaves")[1])["slaves"]
    headers = {**JSON, "Mesos-Stream-Id": stream.stream_id}

    def call(kind: str, **fields: Any) -> None:
        answer, text = master.ask(
            "POST", "/api/v1/scheduler", {"type": kind, "framework_id": framework, kind.lower(): fields}, headers)
        assert answer.status == 202, text

    def own(resource: dict) -> dict:
        (reservation,) = resource["reservations"]
        resource = {**resource, "reservations": [{**reservation, "principal": "ops"}],
                    "allocation_info": {"role": "differential"}}
        if "disk" in resource:
            resource["disk"] = {**resource["disk"], "persistence": {
                **resource["disk"]["persistence"], "principal": "ops"}}
        return resource

    cpus, disk, volume = own(reserved("cpus", 1.0)), own(reserved("disk", 8.0)), own(on_disk(8.0))
    raw = {"name": "disk", "type": "SCALAR", "scalar": {"value": 1.0}, "disk": {"source": {"type": "RAW"}}}
    operations = [
        ("RESERVE", {"resources": [cpus, disk]}),
        ("CREATE", {"volumes": [volume]}),
        ("GROW_VOLUME", {"volume": volume, "addition": own(reserved("disk", 4.0))}),
        ("DESTROY", {"volumes": [volume]}),
        ("UNRESERVE", {"resources": [cpus, disk]}),
    ]
    bad = [
        ("RESERVE", {"resources": [reserved("cpus", 1.0)]}),
        ("RESERVE", {"resources": [own(reserved("cpus", 1.0, "other"))]}),
        ("RESERVE", {"resources": [{**cpus, "reservations": []}]}),
        ("RESERVE", {"resources": []}),
        ("RESERVE", {"resources": [cpus], "source": [cpus]}),
        ("RESERVE", {}),
        ("UNRESERVE", {"resources": [volume]}),
        ("CREATE", {"volumes": [on_disk(8.0)]}),
        ("CREATE", {"volumes": [{**volume, "shared": {}}]}),
        ("DESTROY", {"volumes": [volume]}),
        ("SHRINK_VOLUME", {"volume": volume, "subtract": {"value": 100.0}}),
        ("CREATE_DISK", {"source": raw, "target_type": "MOUNT"}),
        ("DESTROY_DISK", {"source": raw}),
    ]

    def named(prefix: str, kind: str, fields: dict) -> dict:
        return {"type": kind, "id": {"value": prefix}, **({kind.lower(): fields} if fields else {})}

    wanted = [named(f"good {at}", *one) for at, one in enumerate(operations)]
    wanted += [named(f"bad {at}", *one) for at, one in enumerate(bad)]
    call("ACCEPT", offer_ids=[offer["id"]], operations=wanted, filters={"refuse_seconds": 0.1})
    told: dict[str, dict] = {}
    while len(told) < len(wanted):
        status = stream.until("UPDATE_OPERATION_STATUS")["update_operation_status"]["status"]
        name = status["operation_id"]["value"]
        if name not in told:
            message = status.get("message", "").replace(slave["id"], "<agent>")
            if "does not contain" in message:
                message = "... does not contain ..."
            message = re.sub(r"127\.0\.0\.1:\d+", "<address>", UUID.sub("<uuid>", message))
            # How many frameworks there were before this one.
            message = re.sub(r"<uuid>-\d{4}", "<uuid>-0000", message)
            told[name] = {"body": shape({key: value for key, value in status.items() if key != "message"}),
                          "state": status["state"], "message": message}
        if "uuid" in status:
            call("ACKNOWLEDGE_OPERATION_STATUS", agent_id=status["agent_id"], uuid=status["uuid"]["value"],
                 operation_id=status["operation_id"])
    for name, status in told.items():
        records[f"operations: {name}"] = status
    agent = {"value": slave["id"]}
    asked = [("unknown operation", agent), ("unknown agent", {"value": "x"}), ("no agent", None)]
    call("RECONCILE_OPERATIONS", operations=[
        {"operation_id": {"value": name}, **({"agent_id": where} if where else {})} for name, where in asked])
    for name, _ in asked:
        status = stream.until("UPDATE_OPERATION_STATUS")["update_operation_status"]["status"]
        records[f"operations: reconciliation of {name}"] = {
            "state": status["state"], "message": status["message"], "body": shape(status)}
    answer, text = master.ask("POST", "/api/v1", {"type": "GET_OPERATIONS"}, JSON)
    records["operations: GET_OPERATIONS when all are acknowledged"] = comparable(answer, text, {})
    answer, _ = master.ask("POST", "/teardown", f"frameworkId={framework['value']}")
    assert answer.status == 200
    stream.close()


def answers(address: str) -> dict[str, dict]:
    """What the master at `address` answers to everything."""
    master = Master(address)
    records: dict[str, dict] = {}
    ids: dict[str, str] = {}

    def note(name: str, *request: Any) -> None:
        answer, text = master.ask(*request)
        records[name] = comparable(answer, text, ids)

    for path in READS:
        note(f"GET {path}", "GET", path)
    note("POST /state", "POST", "/state", "")
    note("GET /api/v1/scheduler", "GET", "/api/v1/scheduler")
    note("GET /api/v1", "GET", "/api/v1")
    note("teardown: GET", "GET", "/teardown")
    note("teardown: no form", "POST", "/teardown", "")
    note("teardown: unknown", "POST", "/teardown", "frameworkId=x")

    for path in (*SHARED_READS, *MORE_READS):
        note(f"GET {path}", "GET", path)
    for name, method, path, body, headers in WRITES:
        note(name, method, path, body, headers)
    for kind in OPERATOR_PARTS:
        note(f"operator {kind} without its part", "POST", "/api/v1", {"type": kind}, JSON)
    for number, body in enumerate(OPERATOR_BODIES):
        note(f"operator {body['type']} #{number}", "POST", "/api/v1", body, JSON)

    for kind in OPERATOR:
        note(f"operator {kind}", "POST", "/api/v1", {"type": kind}, JSON)
    for name, body, headers in [
        ("no content type", {"type": "GET_HEALTH"}, {}),
        ("unknown content type", {"type": "GET_HEALTH"}, {**JSON, "Content-Type": "text/plain"}),
        ("unknown accept", {"type": "GET_HEALTH"}, {**JSON, "Accept": "text/html"}),
        ("not JSON", "{", JSON),
        ("empty object", {}, JSON),
        ("unknown type", {"type": "FLY"}, JSON),
        ("list files without path", {"type": "LIST_FILES"}, JSON),
        ("list files, none", {"type": "LIST_FILES", "list_files": {"path": "/no/such"}}, JSON),
        ("read file, none", {"type": "READ_FILE", "read_file": {"path": "/no/such", "offset": 0}}, JSON),
        ("teardown unknown", {"type": "TEARDOWN", "teardown": {"framework_id": {"value": "x"}}}, JSON),
        ("teardown without teardown", {"type": "TEARDOWN"}, JSON),
        ("protobuf answer", {"type": "GET_HEALTH"}, {**JSON, "Accept": "application/x-protobuf"}),
    ]:
        note(f"operator: {name}", "POST", "/api/v1", body, headers)

    subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": FRAMEWORK}}
    stream = Stream(master, "/api/v1/scheduler", subscribe, JSON)
    records["subscribe"] = {
        "status": stream.answer.status,
        "Content-Type": stream.answer.getheader("Content-Type"),
        "Transfer-Encoding": stream.answer.getheader("Transfer-Encoding"),
    }
    subscribed = stream.event()
    records["event SUBSCRIBED"] = {"body": shape(subscribed)}
    records["event after SUBSCRIBED"] = {"body": shape(stream.event())}
    offer = stream.until("OFFERS")
    records["event OFFERS"] = {"body": shape(offer)}
    ids["framework"] = subscribed["subscribed"]["framework_id"]["value"]
    ids["stream"] = stream.stream_id or ""
    ids["agent"] = offer["offers"]["offers"][0]["agent_id"]["value"]

    for path in ("/state", "/frameworks", "/roles", "/state-summary"):
        note(f"GET {path} with a framework", "GET", path)
    for kind in ("GET_STATE", "GET_FRAMEWORKS", "GET_AGENTS", "GET_ROLES"):
        note(f"operator {kind} with a framework", "POST", "/api/v1", {"type": kind}, JSON)
    for name, body, headers in scheduler_calls(ids):
        note(f"scheduler: {name}", "POST", "/api/v1/scheduler", body, headers)

    master.ask("POST", "/api/v1/scheduler", {"type": "REVIVE", "framework_id": {"value": ids["framework"]}},
               {**JSON, "Mesos-Stream-Id": ids["stream"]})
    with_a_task(records, master, stream, offer["offers"]["offers"][0], ids)

    live = {**JSON, "Mesos-Stream-Id": ids["stream"]}
    framework = {"value": ids["framework"]}
    master.ask("POST", "/api/v1/scheduler", {"type": "RECONCILE", "framework_id": framework, "reconcile": {
        "tasks": [{"task_id": {"value": "none"}, "agent_id": {"value": ids["agent"]}}]}}, live)
    while (update := stream.until("UPDATE"))["update"]["status"]["task_id"]["value"] != "none":
        pass
    records["event UPDATE of reconciliation"] = {
        "body": shape(update), "state": update["update"]["status"]["state"],
        "reason": update["update"]["status"]["reason"], "source": update["update"]["status"]["source"]}

    # The same framework subscribes again: the older stream ends.
    again = {**subscribe, "framework_id": framework,
             "subscribe": {"framework_info": {**FRAMEWORK, "id": framework}}}
    second = Stream(master, "/api/v1/scheduler", again, JSON)
    second.until("SUBSCRIBED")
    error = stream.until("ERROR")
    records["event ERROR of the older stream"] = {"message": error["error"]["message"]}
    note("scheduler: the older stream's id", "POST", "/api/v1/scheduler",
         {"type": "SUPPRESS", "framework_id": framework}, live)
    stream.close()
    second.close()
    settle("its disconnection", lambda: not connected(master))
    note("scheduler: not subscribed", "POST", "/api/v1/scheduler",
         {"type": "SUPPRESS", "framework_id": framework},
         {**JSON, "Mesos-Stream-Id": second.stream_id or ""})
    note("GET /frameworks, disconnected", "GET", "/frameworks")
    note("teardown", "POST", "/teardown", f"frameworkId={ids['framework']}")
    note("teardown again", "POST", "/teardown", f"frameworkId={ids['framework']}")
    note("GET /frameworks, completed", "GET", "/frameworks")
    removed = Stream(master, "/api/v1/scheduler", again, JSON)
    records["event of a removed framework"] = removed.event()
    records["event of a removed framework"]["error"]["message"] = UUID.sub(
        "<uuid>", records["event of a removed framework"].get("error", {}).get("message", ""))
    removed.close()
    bad = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {**FRAMEWORK, "roles": ["a/../b"]}}}
    refused = Stream(master, "/api/v1/scheduler", bad, JSON)
    records["event of a bad role"] = refused.event()
    refused.close()
    operator_reservations(records, master)
    framework_operations(records, master)
    return records


if __name__ == "__main__":
    with open(sys.argv[2], "w") as file:
        json.dump(answers(sys.argv[1]), file, indent=1, sort_keys=True)
        file.write("\n")
