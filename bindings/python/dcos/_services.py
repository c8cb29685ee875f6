"""Services: apps, pods and the groups they are in, and the deployments that change them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack
from urllib.parse import quote, urlencode

from dcos._errors import DeploymentError
from dcos._patience import Patience

if TYPE_CHECKING:
    from dcos._cluster import Cluster


class How(TypedDict, total=False):
    """How a change is carried out."""

    force: bool
    """Overrides a deployment that is in the way."""
    deadline: int
    """Seconds the deployment may take; then it is stopped where it is."""
    rollback: bool
    """Takes the change back when the deadline has passed, in place of stopping it."""


def query(how: How) -> str:
    """`how` as the parameters of a request."""
    words: dict[str, Any] = {"force": str(how.get("force", False)).lower()}
    if "deadline" in how:
        words["deadline"] = how["deadline"]
    if how.get("rollback"):
        words["onDeadline"] = "rollback"
    return urlencode(words)


@dataclass(frozen=True)
class Waiting:
    """Instances of one service that wait for the same."""

    what: str
    """`master`, `backoff`, `offers`, `agents` (out of reach), `kills`, `start`, `health` or `readiness`."""
    count: int
    instances: tuple[str, ...] = ()
    """The first of them, but for those that are yet to be launched."""
    hosts: tuple[str, ...] = ()
    """Of `agents`: which."""
    refused: Mapping[str, int] | None = None
    """Of `offers`: how many agents were no use, by reason."""
    time_left: timedelta | None = None
    """Of `backoff`: until the next launch."""

    def __str__(self) -> str:
        told = f"{self.count} for {self.what}"
        if self.refused:
            told += " (" + ", ".join(f"{agents} agents: {reason}" for reason, agents in self.refused.items()) + ")"
        if self.hosts:
            told += f" on {', '.join(self.hosts)}"
        return told


@dataclass(frozen=True)
class Action:
    """What a step of a deployment does to one service."""

    name: str
    """Such as `StartApplication`, `ScalePod`."""
    service: str
    pod: bool = False
    waiting_for: tuple[Waiting, ...] = ()
    """Empty if it is done, or was asked of a plan."""

    def __str__(self) -> str:
        waits = ", ".join(map(str, self.waiting_for))
        return f"{self.name} {self.service}" + (f", waits: {waits}" if waits else "")


@dataclass(frozen=True)
class Deployment:
    """A change of services under way, as it was when it was asked for; `refresh` asks again. As text it is a sentence."""

    id: str
    version: str
    apps: tuple[str, ...]
    pods: tuple[str, ...]
    step: int
    """From 1."""
    steps: int
    actions: tuple[Action, ...]
    """Of the step it is at."""
    deadline: datetime | None
    """When it is stopped, or taken back."""
    _cluster: Cluster

    def __str__(self) -> str:
        return f"step {self.step} of {self.steps}: {'; '.join(map(str, self.actions))}"

    def __repr__(self) -> str:
        return f"Deployment(id={self.id!r}, step={self.step}, steps={self.steps})"

    def refresh(self) -> Deployment | None:
        """The same, as it is now; `None` if it has ended."""
        return of_id(self._cluster.deployments(), self.id)

    def wait(self, *, timeout: float | None = None) -> None:
        """Waits until it has ended.

        Raises `DeploymentError`, which is a `TimeoutError`, after `timeout` seconds, or if it had not ended by its deadline.
        """
        _wait(self.id, self.refresh, timeout)

    def stop(self) -> None:
        """Ends it where it is. Raises `NotFoundError` if it has ended."""
        self._cluster._marathon.bytes("DELETE", f"/v2/deployments/{quote(self.id)}?force=true")

    def rollback(self) -> Deployment | None:
        """Takes its change back by another deployment, which is returned; `None` if that had nothing to do.

        Raises `NotFoundError` if it has ended.
        """
        answer = self._cluster._marathon.json("DELETE", f"/v2/deployments/{quote(self.id)}")
        return of_id(self._cluster.deployments(), answer["deploymentId"])

    async def refresh_async(self) -> Deployment | None:
        return await asyncio.to_thread(self.refresh)

    async def wait_async(self, *, timeout: float | None = None) -> None:
        await _wait_async(self.id, self.refresh, timeout)

    async def stop_async(self) -> None:
        await asyncio.to_thread(self.stop)

    async def rollback_async(self) -> Deployment | None:
        return await asyncio.to_thread(self.rollback)


class _Deployed:
    """Something deployments change: it can be waited for."""

    def __init__(self, cluster: Cluster, id: str, deployment: str | None = None) -> None:
        self._cluster = cluster
        self.id = id
        self._deployment = deployment

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"

    def wait(self, *, timeout: float | None = None) -> Self:
        """Waits until its latest deployment has ended.

        Raises `DeploymentError`, which is a `TimeoutError`, after `timeout` seconds, or if it had not ended by its deadline.
        """
        _wait(self.id, self._pending, timeout)
        return self

    async def wait_async(self, *, timeout: float | None = None) -> Self:
        await _wait_async(self.id, self._pending, timeout)
        return self

    def _affected(self, deployment: Deployment) -> bool:
        """Whether a deployment changes it."""
        raise NotImplementedError

    def _pending(self) -> Deployment | None:
        """The deployment that changes it, if there is one."""
        for one in self._cluster.deployments():
            if one.id == self._deployment if self._deployment else self._affected(one):
                return one
        return None

    def _path(self, kind: str) -> str:
        return f"/v2/{kind}/{quote(self.id.lstrip('/'))}"


class App(_Deployed):
    """A service that Marathon keeps running."""

    def definition(self, version: str | None = None) -> dict[str, Any]:
        """What Marathon knows of it, or what it was at a `version`. Raises `NotFoundError` if that is gone."""
        if version is not None:
            return self._ask("GET", f"/versions/{quote(version)}")
        return self._ask("GET")["app"]

    def tasks(self) -> list[dict[str, Any]]:
        """Its tasks, as Marathon tells of them: `id`, `host`, `ports`, `state`, ..."""
        return self._ask("GET", "/tasks")["tasks"]

    def versions(self) -> list[str]:
        """The versions that are remembered, newest first: `definition` and `go_back` know them."""
        return self._ask("GET", "/versions")["versions"]

    def scale(self, instances: int, **how: Unpack[How]) -> App:
        """Asks for so many instances; `wait` for them."""
        return self.update({"instances": instances}, **how)

    def update(self, changes: Mapping[str, Any], **how: Unpack[How]) -> App:
        """Changes its definition: a rolling update."""
        return self._cluster._change("PUT", self.id, dict(changes), how)

    def go_back(self, version: str, **how: Unpack[How]) -> App:
        """Makes it what it was at a version."""
        return self.update({"version": version}, **how)

    def restart(self, **how: Unpack[How]) -> App:
        """Replaces every instance."""
        answer = self._ask("POST", f"/restart?{query(how)}")
        return App(self._cluster, self.id, answer.get("deploymentId"))

    def remove(self, **how: Unpack[How]) -> App:
        """Removes it; `wait` until its instances are gone."""
        return self._cluster._change("DELETE", self.id, None, how)

    def kill(self, *, host: str | None = None, scale: bool = False, wipe: bool = False) -> App:
        """Kills its tasks, or those on one `host`; they are replaced unless `scale` wants as many fewer.

        With `wipe` what is reserved for them goes too, volumes and all.
        """
        words = {"scale": str(scale).lower(), "wipe": str(wipe).lower()} | ({"host": host} if host else {})
        answer = self._ask("DELETE", f"/tasks?{urlencode(words)}")
        return App(self._cluster, self.id, answer.get("deploymentId"))

    async def definition_async(self, version: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(self.definition, version)

    async def tasks_async(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.tasks)

    async def versions_async(self) -> list[str]:
        return await asyncio.to_thread(self.versions)

    async def scale_async(self, instances: int, **how: Unpack[How]) -> App:
        return await asyncio.to_thread(self.scale, instances, **how)

    async def update_async(self, changes: Mapping[str, Any], **how: Unpack[How]) -> App:
        return await asyncio.to_thread(self.update, changes, **how)

    async def go_back_async(self, version: str, **how: Unpack[How]) -> App:
        return await asyncio.to_thread(self.go_back, version, **how)

    async def restart_async(self, **how: Unpack[How]) -> App:
        return await asyncio.to_thread(self.restart, **how)

    async def remove_async(self, **how: Unpack[How]) -> App:
        return await asyncio.to_thread(self.remove, **how)

    async def kill_async(self, *, host: str | None = None, scale: bool = False, wipe: bool = False) -> App:
        return await asyncio.to_thread(self.kill, host=host, scale=scale, wipe=wipe)

    def _affected(self, deployment: Deployment) -> bool:
        return self.id in deployment.apps

    def _ask(self, method: str, path: str = "", body: Any = None) -> Any:
        return self._cluster._marathon.json(method, self._path("apps") + path, body)


class Pod(_Deployed):
    """Containers that live and die together, which Marathon keeps running."""

    def definition(self, version: str | None = None) -> dict[str, Any]:
        """What Marathon knows of it, or what it was at a `version`. Raises `NotFoundError` if that is gone."""
        return self._ask("GET", f"::versions/{quote(version)}" if version else "")

    def status(self) -> dict[str, Any]:
        """How it is: `status`, `instances` with their containers, `terminationHistory`, ..."""
        return self._ask("GET", "::status")

    def versions(self) -> list[str]:
        """The versions that are remembered, newest first."""
        return self._ask("GET", "::versions")

    def update(self, definition: Mapping[str, Any], **how: Unpack[How]) -> Pod:
        """Replaces its definition; the same once more is a restart."""
        self._ask("PUT", f"?{query(how)}", {**definition, "id": self.id})
        return Pod(self._cluster, self.id)

    def scale(self, instances: int, **how: Unpack[How]) -> Pod:
        """Asks for so many instances; `wait` for them."""
        now = self.definition()
        return self.update({**now, "scaling": {**now.get("scaling", {}), "kind": "fixed", "instances": instances}}, **how)

    def kill(self, instances: Iterable[str]) -> None:
        """Kills instances, by the ids `status` tells; they are replaced."""
        self._ask("DELETE", "::instances", list(instances))

    def remove(self, **how: Unpack[How]) -> Pod:
        """Removes it; `wait` until its instances are gone."""
        self._ask("DELETE", f"?{query(how)}")
        return Pod(self._cluster, self.id)

    async def definition_async(self, version: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(self.definition, version)

    async def status_async(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.status)

    async def versions_async(self) -> list[str]:
        return await asyncio.to_thread(self.versions)

    async def update_async(self, definition: Mapping[str, Any], **how: Unpack[How]) -> Pod:
        return await asyncio.to_thread(self.update, definition, **how)

    async def scale_async(self, instances: int, **how: Unpack[How]) -> Pod:
        return await asyncio.to_thread(self.scale, instances, **how)

    async def kill_async(self, instances: Iterable[str]) -> None:
        await asyncio.to_thread(self.kill, instances)

    async def remove_async(self, **how: Unpack[How]) -> Pod:
        return await asyncio.to_thread(self.remove, **how)

    def _affected(self, deployment: Deployment) -> bool:
        return self.id in deployment.pods

    def _ask(self, method: str, path: str = "", body: Any = None) -> Any:
        return self._cluster._marathon.json(method, self._path("pods") + path, body)


class Group(_Deployed):
    """Services that are changed as one, and groups of them."""

    def definition(self, version: str | None = None) -> dict[str, Any]:
        """Its `apps`, `pods`, `groups` and `dependencies`, or those at a `version`, each as it is defined."""
        embed = urlencode([("embed", f"group.{what}") for what in ("apps", "pods", "groups")])
        return _defined(self._ask("GET", f"/versions/{quote(version)}" if version else f"?{embed}"))

    def versions(self) -> list[str]:
        """The versions that are remembered, newest first."""
        return self._ask("GET", "/versions")

    def update(self, changes: Mapping[str, Any], **how: Unpack[How]) -> Group:
        """Changes services in it, all in one deployment: those that `changes` leaves out of a list go."""
        answer = self._ask("PUT", f"?{query(how)}", dict(changes))
        return Group(self._cluster, self.id, answer.get("deploymentId"))

    def scale(self, factor: float, **how: Unpack[How]) -> Group:
        """Multiplies the instances of everything in it."""
        return self.update({"scaleBy": factor}, **how)

    def go_back(self, version: str, **how: Unpack[How]) -> Group:
        """Makes it what it was at a version."""
        return self.update({"version": version}, **how)

    def remove(self, **how: Unpack[How]) -> Group:
        """Removes it with everything in it; `wait` until that is gone."""
        answer = self._ask("DELETE", f"?{query(how)}")
        return Group(self._cluster, self.id, answer.get("deploymentId"))

    async def definition_async(self, version: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(self.definition, version)

    async def versions_async(self) -> list[str]:
        return await asyncio.to_thread(self.versions)

    async def update_async(self, changes: Mapping[str, Any], **how: Unpack[How]) -> Group:
        return await asyncio.to_thread(self.update, changes, **how)

    async def scale_async(self, factor: float, **how: Unpack[How]) -> Group:
        return await asyncio.to_thread(self.scale, factor, **how)

    async def go_back_async(self, version: str, **how: Unpack[How]) -> Group:
        return await asyncio.to_thread(self.go_back, version, **how)

    async def remove_async(self, **how: Unpack[How]) -> Group:
        return await asyncio.to_thread(self.remove, **how)

    def _affected(self, deployment: Deployment) -> bool:
        inside = self.id.rstrip("/") + "/"
        return any(one.startswith(inside) for one in (*deployment.apps, *deployment.pods))

    def _ask(self, method: str, path: str = "", body: Any = None) -> Any:
        return self._cluster._marathon.json(method, self._path("groups") + path, body)


def _defined(group: dict[str, Any]) -> dict[str, Any]:
    """A group with the definitions of its pods, in place of how they are."""
    told = {"pods": [pod.get("spec", pod) for pod in group.get("pods", ())],
            "groups": [_defined(each) for each in group.get("groups", ())]}
    return {**group, **{what: told[what] for what in told if what in group}}


@dataclass(frozen=True)
class QueueEntry:
    """A service with instances to launch, and why they were not yet."""

    service: str
    pod: bool
    count: int
    since: datetime
    time_left: timedelta
    """Until launches are tried again after failures."""
    refused: Mapping[str, int]
    """How many offers each reason stopped."""
    last_refused: tuple[RefusedOffer, ...]
    """The last refusal of each agent, of some agents."""


@dataclass(frozen=True)
class RefusedOffer:
    """An offer that was of no use."""

    hostname: str
    agent_id: str
    reasons: tuple[str, ...]
    at: datetime


@dataclass(frozen=True)
class Change:
    """What would become of one service."""

    service: str
    pod: bool
    change: str
    """`create`, `remove`, `restart` or `scale`."""
    instances: tuple[int, int]
    """Before and after."""
    fields: Mapping[str, tuple[Any, Any]]
    """Of each field of its definition that would change, by its path: before and after."""


@dataclass(frozen=True)
class Plan:
    """What a change of services would do."""

    changes: tuple[Change, ...]
    steps: tuple[tuple[Action, ...], ...]


@dataclass(frozen=True)
class Placement:
    """Instances that would run on an agent."""

    service: str
    hostname: str
    agent_id: str
    instances: int


@dataclass(frozen=True)
class Simulation:
    """Where instances would run with what is free."""

    placements: tuple[Placement, ...]
    waiting: tuple[QueueEntry, ...]
    """Those no agent has room for."""


def _wait(name: str, look: Callable[[], Deployment | None], timeout: float | None) -> None:
    """Waits until there is no deployment any more; `name` is what errors call it."""
    patience, last = Patience(timeout), None
    while now := look():
        last = now
        time.sleep(patience.pause(lambda: DeploymentError(f"{name}: {last}")))
    _in_time(last)


async def _wait_async(name: str, look: Callable[[], Deployment | None], timeout: float | None) -> None:
    # No thread waits along, so that a cancelled wait has ended.
    patience, last = Patience(timeout), None
    while now := await asyncio.to_thread(look):
        last = now
        await asyncio.sleep(patience.pause(lambda: DeploymentError(f"{name}: {last}")))
    _in_time(last)


def _in_time(last: Deployment | None) -> None:
    """Looks, by this machine's clock, whether a deployment that was last seen so was stopped or taken back at its deadline."""
    if last is not None and last.deadline is not None and datetime.now(timezone.utc) >= last.deadline:
        raise DeploymentError(f"{last.id}: its deadline has passed: {last}")


def _waiting(told: Mapping[str, Any]) -> Waiting:
    left = told.get("timeLeftSeconds")
    return Waiting(
        told["what"], told["count"], tuple(told.get("instances", ())), tuple(told.get("hosts", ())),
        {one["reason"]: one["agents"] for one in told["refused"]} if "refused" in told else None,
        None if left is None else timedelta(seconds=left),
    )


def action(told: Mapping[str, Any]) -> Action:
    """An action as Marathon tells of it."""
    pod = "pod" in told
    waits = tuple(_waiting(one) for one in told.get("waitingFor", ()))
    return Action(told["action"], told["pod" if pod else "app"], pod, waits)


def deployment(cluster: Cluster, told: Mapping[str, Any]) -> Deployment:
    """A deployment as Marathon tells of it."""
    deadline = told.get("deadline")
    return Deployment(
        told["id"], told.get("version", ""), tuple(told.get("affectedApps", ())), tuple(told.get("affectedPods", ())),
        told["currentStep"], told["totalSteps"], tuple(action(one) for one in told.get("currentActions", ())),
        datetime.fromisoformat(deadline) if deadline else None, cluster,
    )


def queue_entry(told: Mapping[str, Any]) -> QueueEntry:
    """What waits, as Marathon tells of it."""
    pod = "pod" in told
    reasons = told["processedOffersSummary"]["rejectSummaryLaunchAttempt"]
    offers = tuple(
        RefusedOffer(
            one["offer"]["hostname"], one["offer"]["agentId"], tuple(one["reason"]),
            datetime.fromisoformat(one["timestamp"]),
        )
        for one in told.get("lastUnusedOffers", ())
    )
    return QueueEntry(
        told["pod" if pod else "app"]["id"], pod, told["count"], datetime.fromisoformat(told["since"]),
        timedelta(seconds=told["delay"]["timeLeftSeconds"]),
        {one["reason"]: one["declined"] for one in reasons if one["declined"]}, offers,
    )


def plan(told: Mapping[str, Any]) -> Plan:
    """A plan as Marathon tells of it."""
    return Plan(
        tuple(
            Change(
                one["id"], one["pod"], one["change"], (one["instances"]["from"], one["instances"]["to"]),
                {field["path"]: (field["from"], field["to"]) for field in one["fields"]},
            )
            for one in told["changes"]
        ),
        tuple(tuple(action(one) for one in step["actions"]) for step in told["steps"]),
    )


def free(agent: Mapping[str, Any]) -> dict[str, Any]:
    """An offer of what nobody has of an agent, as the master's `GET_AGENTS` tells of it."""
    def key(resource: Mapping[str, Any]) -> str:
        plain = {name: value for name, value in resource.items() if name not in ("scalar", "ranges", "allocation_info")}
        return json.dumps(plain, sort_keys=True)

    left = [dict(resource) for resource in agent.get("total_resources", ())]
    for used in agent.get("allocated_resources", ()):
        for resource in left:
            if key(resource) != key(used):
                continue
            if "scalar" in resource:
                # Mesos keeps three decimals.
                value = round(resource["scalar"]["value"] - used["scalar"]["value"], 3)
                resource["scalar"] = {"value": max(value, 0)}
            if "ranges" in resource:
                resource["ranges"] = {"range": _without(resource["ranges"]["range"], used["ranges"]["range"])}
            break
    info = agent["agent_info"]
    offer = {
        "id": {"value": "simulated"}, "framework_id": {"value": "simulated"}, "agent_id": info["id"],
        "hostname": info["hostname"], "resources": left, "attributes": info.get("attributes", []),
    }
    return offer | ({"domain": info["domain"]} if "domain" in info else {})


def _without(ranges: Iterable[Mapping[str, int]], used: Iterable[Mapping[str, int]]) -> list[dict[str, int]]:
    """What is left of ranges of numbers."""
    left = [(one["begin"], one["end"]) for one in ranges]
    for gone in used:
        begin, end = gone["begin"], gone["end"]
        left = [
            piece
            for first, last in left
            for piece in ((first, min(last, begin - 1)), (max(first, end + 1), last))
            if piece[0] <= piece[1]
        ]
    return [{"begin": first, "end": last} for first, last in left]


def simulation(told: Mapping[str, Any]) -> Simulation:
    """A simulation as Marathon tells of it."""
    return Simulation(
        tuple(Placement(one["id"], one["hostname"], one["agentId"], one["instances"]) for one in told["placements"]),
        tuple(queue_entry(one) for one in told["waiting"]),
    )


def of_id(found: Iterable[Deployment], deployment_id: str | None) -> Deployment | None:
    """The one of that id, if it has not ended."""
    return next((one for one in found if one.id == deployment_id), None)
