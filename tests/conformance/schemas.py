"""What Marathon and Metronome answer, held against schemas of what the originals do.

`schemas/*.json` say which fields the originals' answers have, of which kind and with which values: for Marathon 1.11
after the types of its RAML, for Metronome 0.6 after its JSON schemas and writers. Objects are closed, so that a field
too many is found. One too few is found if the RAML, which describes what clients send as well, demands it, or `ALWAYS` does.
What is ours beyond that stands in `OURS`, and why in the crates' `docs/differences.md`.

`Watch` looks at all that any Python client in the process (urllib, requests, http.client) is answered by one of
these services, so that every test of them checks the form of every answer it gets.
"""

from __future__ import annotations

import copy
import functools
import gzip
import http.client
import json
import re
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parent / "schemas"

# Port of each service that runs, and which it is.
SERVICES: dict[int, str] = {}

Route = tuple[str, str, str | dict[str, Any]]


def many(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}


def one(**fields: Any) -> dict[str, Any]:
    properties = {key: named(value) for key, value in fields.items()}
    return {"type": "object", "properties": properties, "required": sorted(fields), "additionalProperties": False}


def either(*kinds: str | dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [named(kind) for kind in kinds]}


def named(kind: str | dict[str, Any]) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{kind}"} if isinstance(kind, str) else kind


TEXT = {"type": "string"}
# As Marathon writes moments; JSON schema's `format` alone demands nothing.
MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"
MOMENTS = {"type": "array", "items": {"type": "string", "format": "date-time", "pattern": MOMENT}}
# An app with what `/v2/apps` tells unless asked for something else.
COUNTED = {"allOf": [named("AppInfo"), {"required": [
    "deployments", "tasksHealthy", "tasksRunning", "tasksStaged", "tasksUnhealthy",
]}]}
RESULT = "DeploymentResult"
TASKS = either("TaskList", RESULT)

# Method, path, and what a success looks like; the first that fits counts.
MARATHON: list[Route] = [
    ("GET", "/ping", TEXT),
    ("GET", "/metrics", "NewMetrics"),
    ("GET", "/v2/info", "MarathonInfo"),
    ("GET", "/v2/leader", "LeaderInfo"),
    ("DELETE", "/v2/leader", one(message=TEXT)),
    ("GET", "/v2/queue", "Queue"),
    ("GET", "/v2/deployments", many("DeploymentStepInfo")),
    ("DELETE", "/v2/deployments/[^/]+", RESULT),
    ("GET", "/v2/tasks", "TaskList"),
    ("POST", "/v2/tasks/delete", TASKS),
    ("GET", "/v2/pods", many("Pod")),
    ("GET", "/v2/pods/::status", many("PodStatus")),
    ("GET", "/v2/pods/.*::status", "PodStatus"),
    ("GET", "/v2/pods/.*::versions", MOMENTS),
    ("GET", "/v2/pods/.*::versions/[^/]+", "Pod"),
    ("DELETE", "/v2/pods/.*::instances", {"type": "array", "items": {"type": "object"}}),
    ("DELETE", "/v2/pods/.*::instances/[^/]+", {"type": "object"}),
    ("(GET|POST|PUT)", "/v2/pods(/.*)?", "Pod"),
    ("GET", "/v2/groups(/.*)?/versions", MOMENTS),
    ("GET", "/v2/groups(/.*)?/apps", many("AppInfo")),
    ("GET", "/v2/groups.*", "GroupInfo"),
    ("PUT", "/v2/groups.*", either(RESULT, "DeploymentSteps")),
    ("(POST|DELETE)", "/v2/groups.*", RESULT),
    ("GET", "/v2/apps/.*/versions", "VersionList"),
    ("GET", "/v2/apps/.*/versions/[^/]+", "App"),
    ("GET", "/v2/apps/.*/tasks", "TaskList"),
    ("DELETE", "/v2/apps/.*/tasks", TASKS),
    ("DELETE", "/v2/apps/.*/tasks/[^/]+", either("TaskSingle", RESULT)),
    ("POST", "/v2/apps/.*/restart", RESULT),
    ("GET", r"/v2/apps/.*\*", {"type": "object", "properties": {"*": many("AppInfo")}, "additionalProperties": False}),
    ("GET", "/v2/apps", "AppList"),
    ("POST", "/v2/apps", "AppInfo"),
    ("GET", r"/v2/apps/.+\?embed", one(app="AppInfo")),
    ("GET", "/v2/apps/.+", one(app=COUNTED)),
    ("(PUT|PATCH|DELETE)", "/v2/apps.*", RESULT),
]
METRONOME: list[Route] = [
    ("GET", "/info", "Info"),
    ("GET", "/leader", "Leader"),
    ("GET", "/v1/metrics", "Metrics"),
    ("GET", "/v1/queue", "Queue"),
    ("GET", "/v1/jobs", "Jobs"),
    ("(GET|PUT|DELETE)", "/v1/jobs/[^/]+", "JobInfo"),
    ("(POST|PUT)", "/v1/jobs", "Job"),
    ("(POST|PUT)", "/v0/scheduled-jobs(/[^/]+)?", "Job"),
    ("GET", "/v1/jobs/[^/]+/schedules", "Schedules"),
    ("(GET|POST|PUT)", "/v1/jobs/[^/]+/schedules(/[^/]+)?", "Schedule"),
    ("GET", "/v1/jobs/[^/]+/runs", "Runs"),
    ("(GET|POST)", "/v1/jobs/[^/]+/runs(/.*)?", "Run"),
]
ROUTES = {"marathon": MARATHON, "metronome": METRONOME}

# Fields that the originals don't have: of which object, its name, its form.
OURS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "marathon": [
        ("MarathonConfig", "maintenance_mode", {"type": "boolean"}),
        ("MarathonConfig", "new_group_enforce_role", {"type": "string"}),
    ],
    "metronome": [],
}

# What Marathon's writers put into each answer, whoever sent it without.
ALWAYS = {"marathon": {kind: [
    "backoffFactor", "backoffSeconds", "cpus", "disk", "executor", "gpus", "instances", "killSelection",
    "maxLaunchDelaySeconds", "mem", "networks", "requirePorts", "role", "unreachableStrategy", "upgradeStrategy", "version",
] for kind in ("App", "AppInfo")}, "metronome": {}}

# Objects of which we show what is not set as null, where the original leaves it out.
NULLS = {"marathon": ["MarathonConfig", "ZooKeeperConfig", "HttpConfig"], "metronome": []}


@functools.cache
def schema(service: str) -> dict[str, Any]:
    """The definitions of what a service answers, ours included."""
    document = json.loads((FOLDER / f"{service}.json").read_text())
    for kind, field, form in OURS[service]:
        document["$defs"][kind]["properties"][field] = form
    for kind in NULLS[service]:
        properties = document["$defs"][kind]["properties"]
        for field, form in properties.items():
            properties[field] = {"anyOf": [form, {"type": "null"}]}
    for kind, fields in ALWAYS[service].items():
        form = document["$defs"][kind]
        form["required"] = sorted({*form.get("required", ()), *fields})
    demand_moments(document)
    return document


def demand_moments(form: Any) -> None:
    """Has every moment look like one."""
    if isinstance(form, dict) and form.get("format") == "date-time":
        form["pattern"] = MOMENT
    for part in form.values() if isinstance(form, dict) else form if isinstance(form, list) else ():
        demand_moments(part)


def wanted(service: str, method: str, path: str, status: int) -> dict[str, Any] | None:
    """The schema of an answer; none for those without one."""
    if status >= 400:
        return named("Error")
    path, _, query = path.partition("?")
    path = path.rstrip("/")
    # Who asks for parts gets those.
    for asked in [path + "?embed", path] if "embed=" in query else [path]:
        for methods, pattern, kind in ROUTES[service]:
            if re.fullmatch(methods, method) and re.fullmatch(pattern, asked):
                return named(kind)
    return None


def faults(service: str, method: str, path: str, status: int, answer: Any) -> list[str]:
    """What is wrong with the form of an answer."""
    form = wanted(service, method, path, status)
    if form is None:
        return []
    document = {**copy.copy(schema(service)), **form}
    found = []
    for error in jsonschema.Draft202012Validator(document).iter_errors(answer):
        while error.context:
            # Of several forms, the one it comes closest to.
            error = min(error.context, key=lambda each: (-len(each.absolute_path), str(each.message)))
        where = "/".join(map(str, error.absolute_path))
        found.append(f"{service}: {method} {path} answers {status}; /{where}: {error.message}"[:1000])
    return found


class Watch:
    """Notes every wrong answer that a client in this process gets."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def note(self, port: int, method: str, path: str, status: int, body: bytes) -> None:
        service = SERVICES.get(port)
        if not service or not body:
            return
        try:
            answer = json.loads(body)
        except ValueError:
            self.found.append(f"{service}: {method} {path} answers {status} and calls JSON what is none: {body[:200]!r}")
            return
        self.found += faults(service, method, path, status, answer)

    def install(self) -> None:
        """From now on, for the rest of the process."""
        watch = self
        putrequest = http.client.HTTPConnection.putrequest
        getresponse = http.client.HTTPConnection.getresponse

        def noting_putrequest(self, method, url, *args, **kwargs):
            self.exchange = (method, url)
            return putrequest(self, method, url, *args, **kwargs)

        def noting_getresponse(self, *args, **kwargs):
            response = getresponse(self, *args, **kwargs)
            # The connection of an answer that ends with it forgets its address; this one keeps it.
            method, url = getattr(self, "exchange", ("", ""))
            if self.port in SERVICES and "json" in (response.getheader("Content-Type") or ""):
                watch.follow(response, self.port, method, url)
            return response

        http.client.HTTPConnection.putrequest = noting_putrequest  # type: ignore[method-assign]
        http.client.HTTPConnection.getresponse = noting_getresponse  # type: ignore[method-assign]

    def follow(self, response: http.client.HTTPResponse, port: int, method: str, url: str) -> None:
        """Collects what is read of an answer; at its end it is looked at."""
        body = bytearray()

        def through(read):
            def reading(*args):
                piece = read(*args)
                body.extend(piece)
                if response.isclosed() and body:
                    whole, body[:] = bytes(body), b""
                    if response.getheader("Content-Encoding") == "gzip":
                        whole = gzip.decompress(whole)
                    self.note(port, method, url, response.status, whole)
                return piece

            return reading

        response.read = through(response.read)  # type: ignore[method-assign]
        response.read1 = through(response.read1)  # type: ignore[method-assign]
