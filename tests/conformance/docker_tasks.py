"""What is run by a Docker Engine: tasks of pymesos and apps of Marathon."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from cluster import Cluster, eventually, get
from docker_engine import IMAGE, Engine
from test_pymesos import Tasks, run


def flags(engine: Engine, **more: Any) -> dict[str, Any]:
    """Of an agent that uses `engine`."""
    return {
        "launcher": "posix", "isolation": "posix/cpu,posix/mem", "containerizers": "docker,mesos",
        "docker_socket": engine.socket, **more,
    }


def post(url, body=None, method="POST"):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


class App:
    """A Marathon app of one Docker container, gone afterwards."""

    def __init__(self, cluster, name, cmd, network="HOST", docker=None, **more):
        self.cluster, self.url = cluster, f"{cluster.marathon}/v2/apps/{name}"
        self.body = {
            "id": f"/{name}", "cmd": cmd, "cpus": 0.1, "mem": 64, "instances": 1,
            "container": {"type": "DOCKER", "docker": {"image": IMAGE, "network": network, **(docker or {})}},
            **more,
        }

    def __enter__(self):
        post(f"{self.cluster.marathon}/v2/apps", self.body)
        return self

    def __exit__(self, *_):
        post(f"{self.url}?force=true", method="DELETE")

    def running(self):
        tasks = get(self.url)["app"]["tasks"]
        return next((task for task in tasks if task["state"] == "TASK_RUNNING"), None)

    def sandbox(self):
        root = self.cluster.folder / "agent"
        name = self.body["id"].strip("/")
        return next(iter(sorted(root.glob(f"slaves/*/frameworks/*/executors/{name}*/runs/latest"))), None)

    def log(self, name="stdout"):
        sandbox = self.sandbox()
        return (sandbox / name).read_bytes() if sandbox and (sandbox / name).exists() else b""


class Docker(Tasks):
    """Tasks that a Docker Engine runs."""

    def __init__(self, count, command, docker=None, container=None, uris=None, **more):
        super().__init__(count, command)
        self.docker, self.container = docker or {}, container or {}
        self.uris, self.more = uris or [], more

    def task(self, task_id, agent_id):
        task = super().task(task_id, agent_id)
        task["container"] = {"type": "DOCKER", "docker": {"image": IMAGE, **self.docker}, **self.container}
        task["command"]["uris"] = [{"value": uri} for uri in self.uris]
        return {**task, **self.more}


def last(cluster, tasks):
    """How the only task ended."""
    run(cluster, tasks)
    ((update,),) = tasks.terminal.values()
    return update


def parameters(*pairs: tuple[str, str]) -> dict[str, Any]:
    """`docker.parameters`, in their order."""
    return {"parameters": [{"key": key, "value": value} for key, value in pairs]}
