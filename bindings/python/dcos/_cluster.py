"""A cluster seen from outside: apps, jobs, tasks, agents."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Unpack
from urllib.parse import quote, urlencode, urlsplit

from dcos import _native
from dcos import _services as services
from dcos._errors import ApiError, DefinitionError, NotFoundError, UnreachableError
from dcos._jobs import Job, Schedule
from dcos._patience import Patience
from dcos._services import App, Deployment, Group, How, Plan, Pod, QueueEntry, Simulation

ELECTED = ("zk", "zks", "etcd", "etcds")
"""URLs that name where masters elect their leader."""


def connect(
    master: str = "http://127.0.0.1:5050",
    *,
    marathon: str | None = None,
    metronome: str | None = None,
    timeout: float = 30.0,
    token: str | None = None,
) -> Cluster:
    """A handle on the cluster whose master is at `master`.

    `marathon` and `metronome` are their URLs: the master's host at ports 8080 and 9000 unless said otherwise, or beside
    the master where that is asked through a router (`https://router/mesos`).
    `timeout` is in seconds, for each request. Nothing is sent yet.

    Where several masters elect their leader, `master` may be `zk://host1,host2,host3/mesos` or
    `etcd://…`: each request goes to who leads then.

    A principal and its secret may stand in the URL (`https://principal:secret@host:5050`); they are shown
    to agents as well, and to Marathon and Metronome where these have no URL of their own. So is `token` (a JSON
    web token), by default that in `DCOS_ACS_TOKEN`; what stands in the URL comes before it. TLS is spoken as
    `LIBPROCESS_SSL_*` says, else with those the system trusts.
    """
    master = _url(master)
    url = urlsplit(master)
    if url.scheme not in ELECTED:
        host = url.netloc.removesuffix(f":{url.port}")
        door = master.removesuffix("/").removesuffix("/mesos") if url.path.rstrip("/") == "/mesos" else None
        marathon = marathon or (f"{door}/service/marathon" if door else f"{url.scheme}://{host}:8080")
        metronome = metronome or (f"{door}/service/metronome" if door else f"{url.scheme}://{host}:9000")
    return Cluster(master, marathon or master, metronome=metronome or master, timeout=timeout, token=token)


@dataclass(frozen=True)
class Agent:
    """A node that runs tasks."""

    id: str
    hostname: str
    active: bool
    cpus: float
    mem: float
    """In MiB."""
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One task of any framework."""

    id: str
    name: str
    state: str
    framework_id: str
    agent_id: str
    _cluster: Cluster

    def __repr__(self) -> str:
        return f"Task(id={self.id!r}, state={self.state!r})"

    def read(self, path: str = "stdout", *, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file in the task's sandbox.

        Raises `NotFoundError` if there is no such file or the sandbox is gone.
        """
        return self._cluster._read(self, path, offset, length)

    async def read_async(self, path: str = "stdout", *, offset: int = 0, length: int | None = None) -> bytes:
        return await asyncio.to_thread(self.read, path, offset=offset, length=length)

    def log(self, path: str = "stdout") -> str:
        """A text file of the sandbox, bad UTF-8 replaced."""
        return self.read(path).decode(errors="replace")

    async def log_async(self, path: str = "stdout") -> str:
        return await asyncio.to_thread(self.log, path)

    def follow(self, path: str = "stdout") -> Iterator[bytes]:
        """What is in the file, and then what is added to it, for ever."""
        offset, patience = 0, Patience()
        while True:
            if data := self.read(path, offset=offset):
                offset += len(data)
                patience.renew()
                yield data
            else:
                time.sleep(patience.pause())

    async def follow_async(self, path: str = "stdout") -> AsyncIterator[bytes]:
        offset, patience = 0, Patience()
        while True:
            if data := await self.read_async(path, offset=offset):
                offset += len(data)
                patience.renew()
                yield data
            else:
                await asyncio.sleep(patience.pause())


@dataclass(frozen=True)
class Reason:
    """Why some agents are not offered."""

    count: int
    kind: str
    text: str
    agents: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """Why one role of one framework is not offered more; as text it is one sentence."""

    framework_id: str
    framework_name: str
    role: str
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return "; ".join(f"{reason.count} agents: {reason.text}" for reason in self.reasons)


def _wish(resources: Mapping[str, float] | None, conditions: Iterable[str]) -> dict[str, str]:
    wish: dict[str, str] = {}
    if resources:
        wish["resources"] = ";".join(f"{name}:{amount}" for name, amount in resources.items())
    if joined := ",".join(conditions):
        wish["conditions"] = joined
    return wish


def _explanation(said: Mapping[str, Any]) -> Explanation:
    reasons = tuple(
        Reason(group["count"], group["kind"], group["reason"], tuple(group["agents"]))
        for group in said["summary"]
    )
    return Explanation(said["framework_id"], said["framework_name"], said["role"], reasons)


class Cluster:
    """A cluster: its apps, jobs, tasks and agents. Made by `connect`."""

    def __init__(
        self, master: str, marathon: str, *, metronome: str, timeout: float = 30.0, token: str | None = None
    ) -> None:
        self.master = master
        self.marathon = marathon
        self.metronome = metronome
        self._timeout = timeout
        self._token = _shown_token(token)
        self._master = _Server(master, timeout, self._token)
        self._marathon = _Server(marathon, timeout, self._token, port=8080)
        self._metronome = _Server(metronome, timeout, self._token, port=9000)

    def __repr__(self) -> str:
        return f"Cluster(master={_shown(self.master)!r})"

    def deploy(self, app: Mapping[str, Any], **how: Unpack[How]) -> App:
        """Creates an app, or changes it if it is there. `wait` on the result for it to run."""
        return self._change("PUT", _id(app), dict(app), how)

    def apps(self) -> list[App]:
        """All apps."""
        return [App(self, app["id"]) for app in self._marathon.json("GET", "/v2/apps")["apps"]]

    def app(self, app_id: str) -> App:
        """The app named `app_id`. Raises `NotFoundError` if there is none."""
        app = App(self, "/" + app_id.lstrip("/"))
        app.definition()
        return app

    def deploy_pod(self, pod: Mapping[str, Any], **how: Unpack[How]) -> Pod:
        """Creates a pod, or changes it if it is there. `wait` on the result for it to run."""
        made = Pod(self, "/" + _id(pod).lstrip("/"))
        try:
            return made.update(pod, **how)
        except NotFoundError:
            self._marathon.json("POST", f"/v2/pods?{services.query(how)}", dict(pod))
            return made

    def pods(self) -> list[Pod]:
        """All pods."""
        return [Pod(self, pod["id"]) for pod in self._marathon.json("GET", "/v2/pods")]

    def pod(self, pod_id: str) -> Pod:
        """The pod named `pod_id`. Raises `NotFoundError` if there is none."""
        pod = Pod(self, "/" + pod_id.lstrip("/"))
        pod.definition()
        return pod

    def deploy_group(self, group: Mapping[str, Any], **how: Unpack[How]) -> Group:
        """Creates a group with its services, or changes it if it is there: services it does not name any more go."""
        group_id = _id(group, root=True)
        answer = self._marathon.json("PUT", f"/v2/groups?{services.query(how)}", dict(group))
        return Group(self, "/" + group_id.lstrip("/"), answer.get("deploymentId"))

    def groups(self) -> list[Group]:
        """All groups, the root first."""
        root = Group(self, "/")
        told, found = [root.definition()], []
        while told:
            one = told.pop(0)
            found.append(Group(self, one["id"]))
            told += one["groups"]
        return found

    def group(self, group_id: str = "/") -> Group:
        """The group named `group_id`. Raises `NotFoundError` if there is none."""
        group = Group(self, "/" + group_id.lstrip("/"))
        group.definition()
        return group

    def deployments(self) -> list[Deployment]:
        """The changes of services under way."""
        told = self._marathon.json("GET", "/v2/deployments?embed=waitingFor")
        return [services.deployment(self, one) for one in told]

    def deployment(self, deployment_id: str) -> Deployment:
        """The deployment of that id. Raises `NotFoundError` if it has ended."""
        if found := services.of_id(self.deployments(), deployment_id):
            return found
        raise NotFoundError(404, f"no deployment {deployment_id!r} is under way")

    def kill_tasks(self, task_ids: Iterable[str], *, scale: bool = False, wipe: bool = False) -> Deployment | None:
        """Kills tasks of services; they are replaced unless `scale` wants as many fewer, by the deployment that is returned.

        With `wipe` what is reserved for them goes too, volumes and all.
        """
        words = urlencode({"scale": str(scale).lower(), "wipe": str(wipe).lower()})
        answer = self._marathon.json("POST", f"/v2/tasks/delete?{words}", {"ids": list(task_ids)})
        return services.of_id(self.deployments(), answer.get("deploymentId"))

    def queue(self) -> list[QueueEntry]:
        """Services with instances to launch, and why they were not yet."""
        told = self._marathon.json("GET", "/v2/queue?embed=lastUnusedOffers")["queue"]
        return [services.queue_entry(one) for one in told]

    def retry_now(self, service: str) -> None:
        """Launches of a service wait no longer after failures. Raises `NotFoundError` if none waits."""
        self._marathon.bytes("DELETE", f"/v2/queue/{quote(service.lstrip('/'))}/delay")

    def plan(self, change: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Plan:
        """What it would do to send an app, several, a pod, or a group with its apps; nothing is changed."""
        return services.plan(self._marathon.json("POST", "/v2/plan", _plain(change)))

    def simulate(self, change: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Simulation:
        """Where the instances of such a change would run with what is free now; nothing is changed."""
        told = self._master.json("POST", "/api/v1", {"type": "GET_AGENTS"})["get_agents"]
        agents = [one for one in told.get("agents", ()) if one["active"] and not one.get("deactivated")]
        wish = {"change": _plain(change), "offers": [services.free(agent) for agent in agents]}
        return services.simulation(self._marathon.json("POST", "/v2/simulate", wish))

    def about(self) -> dict[str, Any]:
        """What Marathon says of itself: `version`, `frameworkId`, `leader`, `marathon_config`, ..."""
        return self._marathon.json("GET", "/v2/info")

    def leader(self) -> str:
        """Host and port of the Marathon that leads."""
        return self._marathon.json("GET", "/v2/leader")["leader"]

    def abdicate(self) -> None:
        """Lets another Marathon lead, or this one begin anew; what runs goes on."""
        self._marathon.json("DELETE", "/v2/leader")

    def job_queue(self) -> dict[str, list[str]]:
        """The ids of runs that wait to be launched, by job."""
        told = self._metronome.json("GET", "/v1/queue")
        return {one["jobId"]: [run["runId"] for run in one["runs"]] for one in told}

    def add_job(self, job: Mapping[str, Any], *, schedule: Schedule | None = None) -> Job:
        """Creates a job; with a `schedule` it runs by itself. Refused with status 409 if it is there."""
        if schedule is None:
            self._metronome.json("POST", "/v1/jobs", dict(job))
        else:
            # One request, so that a schedule that is refused leaves no job without one.
            self._metronome.json("POST", "/v0/scheduled-jobs", {**job, "schedules": [schedule._document()]})
        return Job(self, job["id"])

    def jobs(self) -> list[Job]:
        """All jobs."""
        return [Job(self, job["id"]) for job in self._metronome.json("GET", "/v1/jobs")]

    def job(self, job_id: str) -> Job:
        """The job named `job_id`. Raises `NotFoundError` if there is none."""
        job = Job(self, job_id)
        job.definition()
        return job

    def tasks(self, *, completed: bool = False) -> list[Task]:
        """The tasks of all frameworks; those that have ended too if asked for."""
        state = self._master.json("GET", "/state")
        keys = ["tasks", "unreachable_tasks"] + (["completed_tasks"] if completed else [])
        frameworks = state["frameworks"] + (state["completed_frameworks"] if completed else [])
        return [
            Task(t["id"], t["name"], t["state"], t["framework_id"], t["slave_id"], self)
            for framework in frameworks
            for key in keys
            for t in framework.get(key, [])
        ]

    def agents(self) -> list[Agent]:
        """The nodes that run tasks."""
        return [
            Agent(a["id"], a["hostname"], a["active"], a["resources"]["cpus"], a["resources"]["mem"], a["attributes"])
            for a in self._master.json("GET", "/slaves")["slaves"]
        ]

    def why(
        self,
        framework: str | None = None,
        *,
        role: str | None = None,
        resources: Mapping[str, float] | None = None,
        conditions: Iterable[str] = (),
    ) -> list[Explanation]:
        """Why a framework (its id or name; all if `None`) is offered nothing or, with `resources` and
        `conditions` such as `rack=a` or `@hostname!=b`, not enough."""
        query: dict[str, str] = {}
        if framework is not None:
            known = self._master.json("GET", "/frameworks")["frameworks"]
            ids = [f["id"] for f in known if framework in (f["id"], f["name"])]
            if not ids:
                raise NotFoundError(404, f"there is no framework {framework!r}")
            query["framework_id"] = ids[0]
        if role is not None:
            query["role"] = role
        query.update(_wish(resources, conditions))
        answer = self._master.json("GET", "/allocator/explain?" + urlencode(query))
        return [_explanation(explanation) for explanation in answer["explanations"]]

    async def why_async(
        self,
        framework: str | None = None,
        *,
        role: str | None = None,
        resources: Mapping[str, float] | None = None,
        conditions: Iterable[str] = (),
    ) -> list[Explanation]:
        return await asyncio.to_thread(
            self.why, framework, role=role, resources=resources, conditions=conditions
        )

    async def deploy_async(self, app: Mapping[str, Any], **how: Unpack[How]) -> App:
        return await asyncio.to_thread(self.deploy, app, **how)

    async def deploy_pod_async(self, pod: Mapping[str, Any], **how: Unpack[How]) -> Pod:
        return await asyncio.to_thread(self.deploy_pod, pod, **how)

    async def pods_async(self) -> list[Pod]:
        return await asyncio.to_thread(self.pods)

    async def pod_async(self, pod_id: str) -> Pod:
        return await asyncio.to_thread(self.pod, pod_id)

    async def deploy_group_async(self, group: Mapping[str, Any], **how: Unpack[How]) -> Group:
        return await asyncio.to_thread(self.deploy_group, group, **how)

    async def groups_async(self) -> list[Group]:
        return await asyncio.to_thread(self.groups)

    async def group_async(self, group_id: str = "/") -> Group:
        return await asyncio.to_thread(self.group, group_id)

    async def deployments_async(self) -> list[Deployment]:
        return await asyncio.to_thread(self.deployments)

    async def deployment_async(self, deployment_id: str) -> Deployment:
        return await asyncio.to_thread(self.deployment, deployment_id)

    async def kill_tasks_async(
        self, task_ids: Iterable[str], *, scale: bool = False, wipe: bool = False
    ) -> Deployment | None:
        return await asyncio.to_thread(self.kill_tasks, task_ids, scale=scale, wipe=wipe)

    async def queue_async(self) -> list[QueueEntry]:
        return await asyncio.to_thread(self.queue)

    async def retry_now_async(self, service: str) -> None:
        await asyncio.to_thread(self.retry_now, service)

    async def plan_async(self, change: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Plan:
        return await asyncio.to_thread(self.plan, change)

    async def simulate_async(self, change: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Simulation:
        return await asyncio.to_thread(self.simulate, change)

    async def about_async(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.about)

    async def leader_async(self) -> str:
        return await asyncio.to_thread(self.leader)

    async def abdicate_async(self) -> None:
        await asyncio.to_thread(self.abdicate)

    async def job_queue_async(self) -> dict[str, list[str]]:
        return await asyncio.to_thread(self.job_queue)

    async def apps_async(self) -> list[App]:
        return await asyncio.to_thread(self.apps)

    async def app_async(self, app_id: str) -> App:
        return await asyncio.to_thread(self.app, app_id)

    async def add_job_async(self, job: Mapping[str, Any], *, schedule: Schedule | None = None) -> Job:
        return await asyncio.to_thread(self.add_job, job, schedule=schedule)

    async def jobs_async(self) -> list[Job]:
        return await asyncio.to_thread(self.jobs)

    async def job_async(self, job_id: str) -> Job:
        return await asyncio.to_thread(self.job, job_id)

    async def tasks_async(self, *, completed: bool = False) -> list[Task]:
        return await asyncio.to_thread(self.tasks, completed=completed)

    async def agents_async(self) -> list[Agent]:
        return await asyncio.to_thread(self.agents)

    def _change(self, method: str, app_id: str, body: Any, how: How) -> App:
        path = f"/v2/apps/{quote(app_id.lstrip('/'))}?{services.query(how)}"
        answer = self._marathon.json(method, path, body)
        return App(self, "/" + app_id.lstrip("/"), answer.get("deploymentId"))

    def _read(self, task: Task, path: str, offset: int, length: int | None) -> bytes:
        slaves = self._master.json("GET", "/slaves?" + urlencode({"slave_id": task.agent_id}))["slaves"]
        if not slaves:
            raise NotFoundError(404, f"the agent {task.agent_id} of task {task.id} is not registered")
        name, address = slaves[0]["pid"].split("@", 1)
        # Below its own name, since a master may listen at the same address.
        url = urlsplit(self.master)
        who, at, _ = url.netloc.rpartition("@")
        if url.scheme in ELECTED:
            url, who, at = urlsplit(_url(address)), "", ""
        agent = _Server(f"{url.scheme}://{who}{at}{address}/{name}", self._timeout, self._token)
        folder = _sandbox(agent.json("GET", "/state"), task)
        read = b""
        while length is None or len(read) < length:
            wanted: dict[str, Any] = {"path": f"{folder}/{path}", "offset": offset + len(read)}
            if length is not None:
                wanted["length"] = length - len(read)
            # The operator API gives bytes as base64; `/files/read` only gives text.
            answer = agent.json("POST", "/api/v1", {"type": "READ_FILE", "read_file": wanted})
            data = base64.b64decode(answer["read_file"].get("data", ""))
            if not data:
                break
            read += data
        return read


def _plain(change: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Any:
    """A definition, or a list of them."""
    return dict(change) if isinstance(change, Mapping) else [dict(one) for one in change]


def _sandbox(state: Mapping[str, Any], task: Task) -> str:
    """The directory of `task` on its agent."""
    for framework in state["frameworks"] + state["completed_frameworks"]:
        if framework["id"] != task.framework_id:
            continue
        for executor in framework["executors"] + framework["completed_executors"]:
            tasks = executor["tasks"] + executor["queued_tasks"] + executor["completed_tasks"]
            if executor["id"] == task.id or any(t["id"] == task.id for t in tasks):
                if executor.get("type") == "DEFAULT":
                    return f"{executor['directory']}/tasks/{task.id}"
                return executor["directory"]
    raise NotFoundError(404, f"the sandbox of task {task.id} is gone")


def _url(address: str) -> str:
    """`address` with a scheme: that of the cluster's own ports, if it has none."""
    encrypted = os.environ.get("LIBPROCESS_SSL_ENABLED") in ("true", "1")
    return address if "://" in address else f"{'https' if encrypted else 'http'}://{address}"


def _id(definition: Mapping[str, Any], *, root: bool = False) -> str:
    """What a definition calls what it defines, which may be the root group if `root`."""
    named = definition.get("id") if isinstance(definition, Mapping) else None
    if not isinstance(named, str) or not named.strip("" if root else "/"):
        raise DefinitionError(f"a definition is a mapping with an `id` such as '/web': {definition!r}")
    return named


def _shown_token(token: str | None) -> str | None:
    """`token`, or else what `DCOS_ACS_TOKEN` says."""
    return token or os.environ.get("DCOS_ACS_TOKEN", "").strip() or None


def _shown(url: str) -> str:
    """`url` without what is secret."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class _Server:
    """Requests for JSON, errors as exceptions."""

    def __init__(self, base: str, timeout: float, token: str | None = None, *, port: int | None = None) -> None:
        """`port` is where it listens on the machine of the leading master, if that is what `base` names."""
        self._client = _native.HttpClient(base, port=port, timeout=timeout, token=token)
        self._base = _shown(base)

    def bytes(self, method: str, path: str, body: Any = None) -> bytes:
        try:
            status, answer = self._client.request(method, path, None if body is None else json.dumps(body))
        except TimeoutError:
            raise
        except ConnectionError as error:
            raise UnreachableError(f"{self._base}: {error}") from None
        if status < 300:
            return answer
        text = answer.decode(errors="replace")
        try:
            said = json.loads(text)
            text = said.get("message", text)
            if details := said.get("details"):
                text += ": " + (details if isinstance(details, str) else "; ".join(
                    f"{detail.get('path', '')} {', '.join(detail.get('errors', []))}".strip()
                    for detail in details if isinstance(detail, dict)
                ))
        except (ValueError, AttributeError):
            pass
        raise (NotFoundError if status == 404 else ApiError)(status, text.strip())

    def json(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.bytes(method, path, body)
        return json.loads(answer) if answer else {}
