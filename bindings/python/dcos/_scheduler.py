"""Frameworks of one's own."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any, cast

from dcos import _native
from dcos._cluster import Explanation, _explanation, _shown_token, _wish
from dcos._errors import DcosError, RefusedError, UnreachableError

Message = dict[str, Any]


class Scheduler:
    """The deciding half of a framework: override what it wants to hear of.

    Methods may be plain or `async`. They are called one at a time, in the order the master sent the
    events. Messages are dictionaries in the JSON of the Mesos v1 API: `offer["agent_id"]["value"]`.
    """

    def subscribed(self, driver: SchedulerDriver, framework_id: str) -> Any:
        """A stream is open, for the first time or again."""

    def offers(self, driver: SchedulerDriver, offers: list[Message]) -> Any:
        """Resources are offered; each offer is to be accepted or declined."""
        driver.decline(offers)

    def update(self, driver: SchedulerDriver, status: Message) -> Any:
        """A task changed its state."""

    def operation_update(self, driver: SchedulerDriver, status: Message) -> Any:
        """An operation with an id changed its state; `driver.acknowledge_operation(status)` ends it."""

    def rescinded(self, driver: SchedulerDriver, offer_id: str) -> Any:
        """An offer is no longer valid."""

    def message(self, driver: SchedulerDriver, agent_id: str, executor_id: str, data: bytes) -> Any:
        """An executor sent `data`."""

    def failure(
        self, driver: SchedulerDriver, agent_id: str | None, executor_id: str | None, status: int | None
    ) -> Any:
        """An agent was lost or, with `executor_id`, that executor ended."""

    def disconnected(self) -> Any:
        """The stream broke; the driver subscribes anew by itself."""

    def error(self, message: str) -> Any:
        """The master ended the framework; the driver stops after this."""


class SchedulerDriver:
    """Keeps a framework subscribed to the leading master and calls its `Scheduler`.

    `master` is `host:port`, several of them separated by commas, or where they elect their leader
    (`zk://…`, `etcd://…`). With `acknowledge="explicit"` the
    scheduler calls `acknowledge` itself; otherwise updates are acknowledged after `update` returned.
    `token` (a JSON web token, by default that in `DCOS_ACS_TOKEN`) is shown to the master.
    Used in a `with` block, it is stopped at the end of it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        master: str,
        *,
        name: str,
        user: str = "root",
        roles: Iterable[str] = ("*",),
        framework_id: str | None = None,
        failover_timeout: float = 0.0,
        checkpoint: bool = True,
        acknowledge: str = "automatic",
        suppressed_roles: Iterable[str] = (),
        protobuf: bool = True,
        info: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        if acknowledge not in ("automatic", "explicit"):
            raise ValueError(f"acknowledge is 'automatic' or 'explicit', not {acknowledge!r}")
        framework: Message = {
            "user": user,
            "name": name,
            "roles": list(roles),
            "failover_timeout": failover_timeout,
            "checkpoint": checkpoint,
            "capabilities": [{"type": kind} for kind in ("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE")],
            **(info or {}),
        }
        if framework_id:
            framework["id"] = {"value": framework_id}
        self.scheduler = scheduler
        self.name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._native = _native.SchedulerDriver(
            master,
            json.dumps(framework),
            self._on_event,
            suppressed_roles=list(suppressed_roles),
            explicit_acknowledgement=acknowledge == "explicit",
            protobuf=protobuf,
            token=_shown_token(token),
        )

    def __repr__(self) -> str:
        return f"SchedulerDriver(name={self.name!r}, framework_id={self.framework_id!r})"

    def __enter__(self) -> SchedulerDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def framework_id(self) -> str | None:
        """The framework's id, once it has one; keep it for a failover."""
        return self._native.framework_id

    def run(self) -> bool:
        """Runs until stopped; true if the framework was torn down.

        An exception of the scheduler stops the driver (the framework stays registered) and is raised
        here. Raises `RefusedError` if the master wants nothing of the framework.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="dcos-scheduler", daemon=True)
        thread.start()
        try:
            return self._run(loop)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def run_async(self) -> bool:
        """Like `run`; `async` methods of the scheduler run on the caller's event loop."""
        try:
            return await asyncio.to_thread(self._run, asyncio.get_running_loop())
        except asyncio.CancelledError:
            self.stop()
            raise

    def _run(self, loop: asyncio.AbstractEventLoop) -> bool:
        self._loop = loop
        try:
            torn_down = self._native.run()
        except ConnectionRefusedError as error:
            raise self._failure or RefusedError(str(error)) from None
        if self._failure:
            raise self._failure
        return torn_down

    def _on_event(self, kind: str, text: str) -> None:
        try:
            result = self._dispatch(kind, json.loads(text) if text else {})
            if inspect.isawaitable(result):
                assert self._loop
                asyncio.run_coroutine_threadsafe(_await(result), self._loop).result()
        except BaseException as error:  # noqa: BLE001: told to whoever called `run`
            self._failure = error
            self._native.stop()

    def _dispatch(self, kind: str, event: Message) -> Any:
        scheduler = self.scheduler
        match kind:
            case "SUBSCRIBED":
                return scheduler.subscribed(self, event["framework_id"]["value"])
            case "OFFERS":
                return scheduler.offers(self, event.get("offers", []))
            case "UPDATE":
                return scheduler.update(self, event["status"])
            case "UPDATE_OPERATION_STATUS":
                return scheduler.operation_update(self, event["status"])
            case "RESCIND":
                return scheduler.rescinded(self, event["offer_id"]["value"])
            case "MESSAGE":
                data = base64.b64decode(event["data"])
                return scheduler.message(self, event["agent_id"]["value"], event["executor_id"]["value"], data)
            case "FAILURE":
                agent = event.get("agent_id", {}).get("value")
                executor = event.get("executor_id", {}).get("value")
                return scheduler.failure(self, agent, executor, event.get("status"))
            case "DISCONNECTED":
                return scheduler.disconnected()
            case "ERROR":
                return scheduler.error(event["message"])

    def launch(
        self, offers: Message | Iterable[Message], tasks: Iterable[Message], *, refuse_seconds: float | None = None
    ) -> None:
        """Launches `tasks` with `offers` of one agent. A task's `agent_id` is filled in if absent."""
        several = _list(offers)
        infos = [{"agent_id": several[0]["agent_id"], **task} for task in tasks]
        operation = {"type": "LAUNCH", "launch": {"task_infos": infos}}
        self.accept(several, [operation], refuse_seconds=refuse_seconds)

    def accept(
        self, offers: Iterable[Message], operations: Iterable[Message], *, refuse_seconds: float | None = None
    ) -> None:
        """Uses `offers` of one agent for `operations`; what is left over is declined."""
        self._offers("ACCEPT", offers, refuse_seconds, operations=list(operations))

    def decline(self, offers: Message | Iterable[Message], *, refuse_seconds: float | None = None) -> None:
        """Gives offers back. `refuse_seconds` is for how long not to offer the same again: 5 if `None`."""
        self._offers("DECLINE", _list(offers), refuse_seconds)

    def _offers(self, kind: str, offers: Iterable[Message], refuse_seconds: float | None, **more: Any) -> None:
        body: Message = {"offer_ids": [offer["id"] for offer in offers], **more}
        if refuse_seconds is not None:
            body["filters"] = {"refuse_seconds": refuse_seconds}
        self.call(kind, body)

    def kill(self, task_id: str, *, agent_id: str | None = None, grace_seconds: float | None = None) -> None:
        """Kills a task; `grace_seconds` can only shorten the grace period it was launched with."""
        body: Message = {"task_id": {"value": task_id}}
        if agent_id:
            body["agent_id"] = {"value": agent_id}
        if grace_seconds is not None:
            body["kill_policy"] = {"grace_period": {"nanoseconds": round(grace_seconds * 1e9)}}
        self.call("KILL", body)

    def acknowledge(self, status: Message) -> None:
        """Says that `status` has been noted, if it asks for that."""
        if "uuid" in status:
            self.call("ACKNOWLEDGE", {key: status[key] for key in ("agent_id", "task_id", "uuid")})

    def acknowledge_operation(self, status: Message) -> None:
        """Says that the `status` of an operation has been noted, if it asks for that."""
        if "uuid" in status:
            body = {key: status[key] for key in ("agent_id", "operation_id")}
            self.call("ACKNOWLEDGE_OPERATION_STATUS", {**body, "uuid": status["uuid"]["value"]})

    def reconcile(self, tasks: Iterable[str] = ()) -> None:
        """Asks for the state of `tasks` or, if there are none, of all that have not ended."""
        self.call("RECONCILE", {"tasks": [{"task_id": {"value": task}} for task in tasks]})

    def revive(self, roles: Iterable[str] = ()) -> None:
        """Asks for offers again for `roles`, or all, whatever was declined before."""
        self.call("REVIVE", {"roles": list(roles)})

    def suppress(self, roles: Iterable[str] = ()) -> None:
        """Asks for no more offers for `roles`, or all, until `revive`."""
        self.call("SUPPRESS", {"roles": list(roles)})

    def send(self, agent_id: str, executor_id: str, data: bytes) -> None:
        """Sends `data` to an executor, once: it may get lost."""
        self.call("MESSAGE", {
            "agent_id": {"value": agent_id},
            "executor_id": {"value": executor_id},
            "data": base64.b64encode(data).decode(),
        })

    def call(self, kind: str, body: Message | None = None) -> None:
        """Sends any call of the scheduler API.

        Raises `UnreachableError` while no stream is open, `RefusedError` if the master refuses it.
        """
        call: Message = {"type": kind}
        if body is not None:
            call[kind.lower()] = body
        try:
            self._native.call(json.dumps(call))
        except ConnectionRefusedError as error:
            raise RefusedError(str(error)) from None
        except ConnectionError as error:
            raise UnreachableError(str(error)) from None

    def why(
        self,
        role: str | None = None,
        *,
        resources: Mapping[str, float] | None = None,
        conditions: Iterable[str] = (),
    ) -> list[Explanation]:
        """Why the framework is offered nothing or, with `resources` and `conditions` such as `rack=a`,
        not enough. Only masters of this project answer; others raise `RefusedError`."""
        wish = _wish(resources, conditions)
        try:
            said = self._native.why(role, wish.get("resources"), wish.get("conditions"))
        except ConnectionRefusedError as error:
            raise RefusedError(str(error)) from None
        except ConnectionError as error:
            raise UnreachableError(str(error)) from None
        return [_explanation(explanation) for explanation in json.loads(said)]

    def stop(self) -> None:
        """Stops, and leaves the framework registered for its failover timeout; its tasks run on."""
        self._native.stop()

    def teardown(self) -> None:
        """Removes the framework and kills its tasks; then stops."""
        try:
            self._native.teardown()
        except ConnectionError as error:
            raise DcosError(str(error)) from None


def _list(offers: Message | Iterable[Message]) -> list[Message]:
    if isinstance(offers, dict):
        return [cast(Message, offers)]
    return list(offers)


async def _await(result: Any) -> Any:
    return await result
