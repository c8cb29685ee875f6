"""Jobs: what runs at times, after other jobs, or when it is told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dcos._errors import NotFoundError, RunTimeoutError
from dcos._patience import Patience

if TYPE_CHECKING:
    from dcos._cluster import Cluster


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True)
class JobRun:
    """One run of a job, as it was when it was asked for; `refresh` asks again."""

    id: str
    job_id: str
    status: str
    """`INITIAL`, `STARTING`, `ACTIVE`, `SUCCESS` or `FAILED`."""
    created_at: datetime
    completed_at: datetime | None
    tasks: tuple[str, ...]
    """The ids of its tasks: one, and another one after each failure."""
    _cluster: Cluster

    def __repr__(self) -> str:
        return f"JobRun(id={self.id!r}, job_id={self.job_id!r}, status={self.status!r})"

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status in ("SUCCESS", "FAILED")

    @property
    def succeeded(self) -> bool:
        """Whether it is over and did well."""
        return self.status == "SUCCESS"

    def refresh(self) -> JobRun:
        """The same run, as it is now. Raises `NotFoundError` if nothing is known of it any more."""
        if self.ended:
            return self
        try:
            return _run(self._cluster, self._cluster._metronome.json("GET", self._path()))
        except NotFoundError:
            pass
        job = Job(self._cluster, self.job_id)
        for run in job.history().runs:
            if run.id == self.id:
                return run
        raise NotFoundError(404, f"nothing is known of run {self.id} of job {self.job_id} any more")

    def stop(self) -> None:
        """Ends it: its tasks are killed, and it has failed. Raises `NotFoundError` if it is over."""
        self._cluster._metronome.bytes("POST", f"{self._path()}/actions/stop")

    def wait(self, *, timeout: float | None = None) -> JobRun:
        """Waits until it is over, and tells how it ended; whether it did well is for the caller to ask.

        Raises `RunTimeoutError`, which is a `TimeoutError`, after `timeout` seconds.
        """
        patience = Patience(timeout)
        while not (run := self.refresh()).ended:
            time.sleep(patience.pause(run._late))
        return run

    async def refresh_async(self) -> JobRun:
        return await asyncio.to_thread(self.refresh)

    async def stop_async(self) -> None:
        await asyncio.to_thread(self.stop)

    async def wait_async(self, *, timeout: float | None = None) -> JobRun:
        # No thread waits along, so that a cancelled wait has ended.
        patience = Patience(timeout)
        while not (run := await self.refresh_async()).ended:
            await asyncio.sleep(patience.pause(run._late))
        return run

    def _late(self) -> RunTimeoutError:
        return RunTimeoutError(f"run {self.id} of job {self.job_id} is {self.status}")

    def _path(self) -> str:
        return f"/v1/jobs/{quote(self.job_id)}/runs/{quote(self.id)}"


@dataclass(frozen=True)
class JobHistory:
    """How a job's runs ended."""

    success_count: int
    failure_count: int
    last_success_at: datetime | None
    last_failure_at: datetime | None
    runs: tuple[JobRun, ...]
    """Those that are remembered, newest first."""


@dataclass(frozen=True)
class Schedule:
    """When a job runs by itself."""

    id: str
    cron: str
    timezone: str = "UTC"
    concurrency_policy: str = "ALLOW"
    """`ALLOW`, or `FORBID`: no run while another one goes on."""
    starting_deadline_seconds: int = 900
    enabled: bool = True
    next_run_at: datetime | None = None
    """Set by Metronome."""

    def _document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "cron": self.cron,
            "timezone": self.timezone,
            "concurrencyPolicy": self.concurrency_policy,
            "startingDeadlineSeconds": self.starting_deadline_seconds,
            "enabled": self.enabled,
        }


class Job:
    """Something that Metronome runs."""

    def __init__(self, cluster: Cluster, job_id: str) -> None:
        self._cluster = cluster
        self.id = job_id

    def __repr__(self) -> str:
        return f"Job(id={self.id!r})"

    def definition(self) -> dict[str, Any]:
        """What Metronome knows of it. Raises `NotFoundError` if it is gone."""
        return self._ask("GET")

    def update(self, definition: Mapping[str, Any]) -> Job:
        """Replaces its definition, but for its schedules; runs that go on are not touched."""
        self._ask("PUT", body={**definition, "id": self.id})
        return self

    def run(self) -> JobRun:
        """Runs it now; `wait` on the result."""
        return _run(self._cluster, self._ask("POST", "/runs"))

    def runs(self) -> list[JobRun]:
        """The runs that go on."""
        return [_run(self._cluster, run) for run in self._ask("GET", "/runs")]

    def history(self) -> JobHistory:
        """How its runs ended."""
        told = self._ask("GET", "?embed=history")["history"]
        ended = [
            _run(self._cluster, {**run, "jobId": self.id, "status": status, "completedAt": run["finishedAt"]})
            for status, runs in (("SUCCESS", told["successfulFinishedRuns"]), ("FAILED", told["failedFinishedRuns"]))
            for run in runs
        ]
        ended.sort(key=lambda run: (run.completed_at or run.created_at, run.id), reverse=True)
        return JobHistory(
            told["successCount"], told["failureCount"], _moment(told.get("lastSuccessAt")),
            _moment(told.get("lastFailureAt")), tuple(ended),
        )

    def schedules(self) -> list[Schedule]:
        """When it runs by itself; at most one."""
        return [_schedule(schedule) for schedule in self._ask("GET", "/schedules")]

    def schedule(self, schedule: Schedule) -> Schedule:
        """Lets it run by itself from now on: sets the schedule of that id, or adds it."""
        known = any(one.id == schedule.id for one in self.schedules())
        path = f"/schedules/{quote(schedule.id)}" if known else "/schedules"
        return _schedule(self._ask("PUT" if known else "POST", path, schedule._document()))

    def unschedule(self, schedule_id: str) -> None:
        """Removes a schedule. Raises `NotFoundError` if there is none of that id."""
        self._cluster._metronome.bytes("DELETE", f"/v1/jobs/{quote(self.id)}/schedules/{quote(schedule_id)}")

    def remove(self, *, stop_runs: bool = False) -> None:
        """Removes it with its history. Refused while it runs, unless `stop_runs`."""
        self._ask("DELETE", f"?stopCurrentJobRuns={str(stop_runs).lower()}")

    async def definition_async(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.definition)

    async def update_async(self, definition: Mapping[str, Any]) -> Job:
        return await asyncio.to_thread(self.update, definition)

    async def run_async(self) -> JobRun:
        return await asyncio.to_thread(self.run)

    async def runs_async(self) -> list[JobRun]:
        return await asyncio.to_thread(self.runs)

    async def history_async(self) -> JobHistory:
        return await asyncio.to_thread(self.history)

    async def schedules_async(self) -> list[Schedule]:
        return await asyncio.to_thread(self.schedules)

    async def schedule_async(self, schedule: Schedule) -> Schedule:
        return await asyncio.to_thread(self.schedule, schedule)

    async def unschedule_async(self, schedule_id: str) -> None:
        await asyncio.to_thread(self.unschedule, schedule_id)

    async def remove_async(self, *, stop_runs: bool = False) -> None:
        await asyncio.to_thread(self.remove, stop_runs=stop_runs)

    def _ask(self, method: str, path: str = "", body: Any = None) -> Any:
        return self._cluster._metronome.json(method, f"/v1/jobs/{quote(self.id)}{path}", body)


def _task_ids(tasks: Iterable[Any]) -> tuple[str, ...]:
    """Runs that go on tell how their tasks are, those that ended tell only which."""
    return tuple(task["id"] if isinstance(task, Mapping) else task for task in tasks)


def _run(cluster: Cluster, told: Mapping[str, Any]) -> JobRun:
    return JobRun(
        told["id"], told["jobId"], told["status"], datetime.fromisoformat(told["createdAt"]),
        _moment(told.get("completedAt")), _task_ids(told.get("tasks", ())), cluster,
    )


def _schedule(told: Mapping[str, Any]) -> Schedule:
    return Schedule(
        told["id"], told["cron"], told["timezone"], told["concurrencyPolicy"], told["startingDeadlineSeconds"],
        told["enabled"], _moment(told.get("nextRunAt")),
    )
