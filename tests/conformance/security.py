"""What a master answers to those it does not know, and to those who may not.

`python security.py HOST:PORT FILE` records the answers of a master that was started with
`flags(folder)`: that is how `recorded/mesos-1.11-security.json` was made from an original one.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

from differential import JSON, Master, comparable

CREDENTIALS = {"credentials": [
    {"principal": "admin", "secret": "admin-secret"},
    {"principal": "guest", "secret": "guest-secret"},
    {"principal": "agent", "secret": "agent-secret"},
]}
NOBODY = {"type": "NONE"}
GUEST = {"values": ["guest"]}
# What the guest may not do.
FORBIDDEN = {
    "register_frameworks": "roles", "run_tasks": "users", "teardown_frameworks": "framework_principals",
    "reserve_resources": "roles", "unreserve_resources": "reserver_principals", "create_volumes": "roles",
    "destroy_volumes": "creator_principals", "resize_volumes": "roles", "get_endpoints": "paths",
    "update_weights": "roles", "update_quotas": "roles", "view_frameworks": "users",
    "access_mesos_logs": "logs", "view_flags": "flags", "set_log_level": "level",
    "update_maintenance_schedules": "machines", "start_maintenances": "machines",
    "stop_maintenances": "machines", "mark_agents_gone": "agents", "drain_agents": "agents",
    "deactivate_agents": "agents", "reactivate_agents": "agents",
}
ACLS = {"permissive": True, **{
    name: [{"principals": GUEST, what: NOBODY}] for name, what in FORBIDDEN.items()
}}


def flags(folder: Path) -> dict[str, str]:
    """Writes what the master reads, and returns its flags."""
    credentials = folder / "credentials.json"
    credentials.write_text(json.dumps(CREDENTIALS))
    credentials.chmod(0o600)
    return {
        "credentials": str(credentials), "acls": json.dumps(ACLS),
        "authenticate_http_readonly": "true", "authenticate_http_readwrite": "true",
        "authenticate_http_frameworks": "true", "http_framework_authenticators": "basic",
    }


def basic(principal: str, secret: str) -> dict[str, str]:
    token = base64.b64encode(f"{principal}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


ADMIN, ONE = basic("admin", "admin-secret"), basic("guest", "guest-secret")
WHO: dict[str, dict[str, str]] = {
    "nobody": {}, "a stranger": basic("x", "y"), "a wrong secret": basic("admin", "guest-secret"),
    "a bearer": {"Authorization": "Bearer abc"}, "nonsense": {"Authorization": "Basic ?"},
    "guest": ONE, "admin": ADMIN,
}
PATHS = ["/state", "/master/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/roles", "/flags",
         "/metrics/snapshot", "/weights", "/health", "/version", "/files/debug", "/files/browse?path=/master/log"]
MACHINE = {"hostname": "a-machine", "ip": "10.0.0.1"}
CALLS: list[dict[str, Any]] = [
    {"type": "GET_HEALTH"}, {"type": "GET_FLAGS"}, {"type": "GET_FRAMEWORKS"},
    {"type": "SET_LOGGING_LEVEL", "set_logging_level": {"level": 1, "duration": {"nanoseconds": 1000000000}}},
    {"type": "TEARDOWN", "teardown": {"framework_id": {"value": "no-such-framework"}}},
    {"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"role": "r", "weight": 2.0}]}},
    {"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [{"role": "r", "limits": {"cpus": {"value": 1}}}]}},
    {"type": "START_MAINTENANCE", "start_maintenance": {"machines": [MACHINE]}},
    {"type": "STOP_MAINTENANCE", "stop_maintenance": {"machines": [MACHINE]}},
    {"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": {"schedule": {"windows": [
        {"machine_ids": [MACHINE], "unavailability": {"start": {"nanoseconds": 1}}}]}}},
    {"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": "no-such-agent"}}},
    {"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": "no-such-agent"}}},
    {"type": "DEACTIVATE_AGENT", "deactivate_agent": {"agent_id": {"value": "no-such-agent"}}},
    {"type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": {"value": "no-such-agent"}}},
]


def subscribe(**info: Any) -> dict:
    return {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "security", **info}}}


def first_event(master: Master, call: dict, headers: dict[str, str]) -> Any:
    """The status and the first event of a subscription."""
    connection = master.connect()
    connection.request("POST", "/api/v1/scheduler", body=json.dumps(call), headers={**JSON, **headers})
    answer = connection.getresponse()
    try:
        if answer.status != 200:
            return {"status": answer.status, "body": answer.read().decode()}
        length = answer.readline()
        event = json.loads(answer.read(int(length)))
        return {"status": 200, "type": event["type"], "error": event.get("error")}
    finally:
        connection.close()


def answers(address: str) -> dict[str, Any]:
    master = Master(address)
    records: dict[str, Any] = {}
    for who, headers in WHO.items():
        for path in PATHS:
            answer, text = master.ask("GET", path, headers=headers)
            record = comparable(answer, text, {})
            if answer.status == 200:
                # What they show to those who may read is compared elsewhere.
                record = {"status": 200, "shows flags": b'"flags"' in text}
            records[f"{who}: GET {path}"] = record
        for path in ["/api/v1", "/api/v1/scheduler", "/teardown"]:
            answer, text = master.ask("POST", path, "{}", {**JSON, **headers})
            records[f"{who}: POST {path}"] = comparable(answer, text, {})
    for who, headers in (("guest", ONE), ("admin", ADMIN)):
        for call in CALLS:
            answer, text = master.ask("POST", "/api/v1", call, {**JSON, **headers})
            record = comparable(answer, text, {})
            if answer.status != 403:
                # Only who may is compared here, not what comes of it.
                record = {"status": "not 403"}
            records[f"{who}: {call['type']}"] = record
    for name, call, headers in [
        ("guest subscribes", subscribe(), ONE),
        ("guest subscribes by its name", subscribe(principal="guest"), ONE),
        ("guest subscribes by another name", subscribe(principal="admin"), ONE),
        ("admin subscribes", subscribe(principal="admin", role="r"), ADMIN),
        ("admin subscribes without a name", subscribe(role="r"), ADMIN),
        ("nobody subscribes", subscribe(principal="admin"), {}),
    ]:
        records[name] = first_event(master, call, headers)
    return records


if __name__ == "__main__":
    if sys.argv[1] == "flags":
        for name, value in flags(Path(sys.argv[2])).items():
            print(f"export MESOS_{name.upper()}={json.dumps(value) if name != 'acls' else chr(39) + value + chr(39)}")
    else:
        Path(sys.argv[2]).write_text(json.dumps(answers(sys.argv[1]), indent=1, sort_keys=True) + "\n")
