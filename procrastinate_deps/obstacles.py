"""What keeps a job from starting, or who runs it: one class for each kind of obstacle, with its words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias

MAX_AHEAD = 1000
"""A line is counted up to so many jobs (sql/functions/job_obstacles.sql)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parents:
    """Blocked: `live` parents have not ended."""

    kind: ClassVar = "parents"
    live: int

    @property
    def text(self) -> str:
        return f"{counted(self.live, 'parent')} to end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """It was deferred, or retried by hand, for a later time."""

    kind: ClassVar = "schedule"
    until: datetime
    attempt: int

    @property
    def text(self) -> str:
        return f"its time: not before {moment(self.until)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """An attempt failed, and the next one (`attempt`, counted from 1) has its time."""

    kind: ClassVar = "retry"
    until: datetime
    attempt: int

    @property
    def text(self) -> str:
        return f"its attempt number {self.attempt}: not before {moment(self.until)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Its queue is paused."""

    kind: ClassVar = "paused"
    queue: str
    since: datetime

    @property
    def text(self) -> str:
        return f"its queue {self.queue!r}, which is paused since {moment(self.since)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Another job has its lock.

    `holder` is that job (None: nobody has it, which `check` would report), `ahead` how many others wait in front of
    this one, at most 1,000 being counted (None: its queue is paused, and it stands in no line).
    """

    kind: ClassVar = "lock"
    lock: str
    holder: int | None = None
    holder_status: str | None = None
    holder_task: str | None = None
    ahead: int | None = None

    @property
    def text(self) -> str:
        if self.holder is None:
            return f"the lock {self.lock!r}, which nobody has: run check --repair"
        has = "has" if self.holder_status == "doing" else "is to have"
        text = f"the lock {self.lock!r}, which job {self.holder} ({self.holder_task}, {self.holder_status}) {has}"
        return text if not self.ahead else f"{text}; {_line(self.ahead)} before it"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWorker:
    """No worker that gave a sign of life within 30 seconds serves its queue."""

    kind: ClassVar = "worker"
    queue: str

    @property
    def text(self) -> str:
        return f"a worker for its queue {self.queue!r}: none is running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Nothing is in its way but other jobs: `ahead` of its queue come first, of which at most 1,000 are counted.

    `workers` serve its queue, with `slots` jobs at a time all together.
    """

    kind: ClassVar = "slot"
    queue: str
    workers: int
    slots: int
    ahead: int

    @property
    def text(self) -> str:
        have = f"{counted(self.workers, 'worker')} with {counted(self.slots, 'slot')}"
        return f"a free slot: {have} for its queue {self.queue!r}; {_line(self.ahead)} before it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A worker runs it, in its attempt number `attempt`, since `since`.

    `live`: the worker gave a sign of life within 30 seconds. `progress`: what the task said last of how far it is.
    """

    kind: ClassVar = "running"
    since: datetime
    attempt: int
    abort_requested: bool
    worker_id: int
    live: bool
    worker: str | None = None
    hostname: str | None = None
    pid: int | None = None
    heartbeat_age_s: float | None = None
    progress: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        return "; ".join(self._parts())

    def _parts(self) -> list[str]:
        if self.worker is None:
            parts = [f"worker {self.worker_id}, which is not known any more, was running it: it will be taken back"]
        else:
            who = f"worker {self.worker_id} ({self.worker} on {self.hostname}, process {self.pid})"
            parts = [f"{who} runs it since {moment(self.since)}, attempt {self.attempt}"]
            if not self.live:
                parts.append(
                    f"that worker gave no sign of life for {self.heartbeat_age_s:.0f} s: the job will be taken back"
                )
        if self.progress is not None:
            of = "" if self.progress.get("total") is None else f" of {self.progress['total']:g}"
            message = self.progress.get("message")
            parts.append(f"{self.progress['done']:g}{of} done" + (f": {message}" if message else ""))
        if self.abort_requested:
            parts.append("it was asked to abort")
        return parts


Obstacle: TypeAlias = Parents | Schedule | Retry | Paused | Lock | NoWorker | Slot | Running

KINDS: dict[str, Callable[..., Obstacle]] = {
    each.kind: each for each in (Parents, Schedule, Retry, Paused, Lock, NoWorker, Slot, Running)
}
_TIMES = frozenset({"until", "since"})


def read_obstacle(found: Mapping[str, Any]) -> Obstacle:
    """One element of what job_obstacles gives."""
    values = {key: read_time(value) if key in _TIMES else value for key, value in found.items() if key != "kind"}
    return KINDS[found["kind"]](**values)


def obstacle_as_dict(obstacle: Obstacle) -> dict[str, Any]:
    """As JSON can hold it: its kind, its words and its fields."""
    fields = {field.name: getattr(obstacle, field.name) for field in dataclasses.fields(obstacle)}
    return {
        "kind": obstacle.kind,
        "text": obstacle.text,
        **{name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()},
    }


def read_time(text: str) -> datetime:
    """A time of PostgreSQL's JSON, which is in the session's time zone."""
    return datetime.fromisoformat(text).astimezone(UTC)


def moment(at: datetime) -> str:
    """As a person reads it, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _line(ahead: int) -> str:
    if ahead == 0:
        return "nothing"
    return f"{'more than ' if ahead >= MAX_AHEAD else ''}{counted(ahead, 'job')}"
