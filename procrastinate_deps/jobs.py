"""Jobs as the database has them, and what is told to it about them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from procrastinate_deps.dependencies import RunWhen
    from procrastinate_deps.retry import RetryDecision

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 0


class Status(StrEnum):
    """Where a job is in its life."""

    BLOCKED = "blocked"  # waits for at least one parent that isn't terminal
    TODO = "todo"  # waits for a worker, its time or its lock
    DOING = "doing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABORTED = "aborted"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED})


class CancelKind(StrEnum):
    """Why a cancelled job was cancelled."""

    MANUAL = "manual"  # someone asked
    UPSTREAM = "upstream"  # its rule failed because a parent was unsuccessful
    NOT_NEEDED = "not_needed"  # its rule asked for a failure, and there was none


class Gate(StrEnum):
    """Why a todo job can't be fetched yet."""

    SCHEDULED = "scheduled"
    LOCK = "lock"


class DeleteJobCondition(StrEnum):
    """Which jobs are deleted when they end."""

    NEVER = "never"
    SUCCESSFUL = "successful"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class NotStored:
    """Stands in the place of the result of a job that succeeded and whose result could not be stored.

    It is no data: as the argument of a job it is refused like anything else that isn't JSON.

    Attributes
    ----------
    reason:
        Why it could not: it was not JSON, or it was too large.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come, as its task last said by `context.set_progress`.

    Attributes
    ----------
    done, total:
        In whatever the task counts; total None: it doesn't know.
    message:
        What it does at the moment.
    updated_at:
        When the database heard of it, which may be half a second later.
    """

    done: float
    total: float | None = None
    message: str | None = None
    updated_at: datetime

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None without a total. `done` may exceed a total that was guessed: that is 1, too."""
        if self.total is None:
            return None
        return 1.0 if self.done >= self.total else self.done / self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when it was read. All times are aware, in UTC.

    Attributes
    ----------
    id, status, queue, priority, lock, queueing_lock, task_name, task_kwargs:
        As it was deferred (a retry may have changed priority, queue and lock); `task_kwargs` are the arguments.
    scheduled_at:
        When it may start at the earliest; None: at once.
    ready_at:
        When its last parent ended, or it was put back for another run; None: when it was created.
    attempts:
        How many runs ended before this one: 0 in the first.
    abort_requested:
        Someone asked the running job to stop.
    worker_id:
        The worker that claimed it last.
    run_when:
        The rule by which its parents' ends decide about it.
    created_at, started_at, finished_at:
        When it was deferred, when its last run started, when it ended; None: not yet.
    result, error:
        What the task returned, a `NotStored` where that could not be stored; the last error with its traceback.
    cancel_kind, cancel_reason:
        Why a cancelled job was cancelled.
    rescues:
        How often it was taken back from a worker that was lost.
    claim:
        Grows with each fetch of the job; a worker ends a job only under the claim that it fetched it with.
    gate:
        Why a todo job can't be fetched yet; None: it can.
    ignores_dependencies:
        It was made runnable by hand, whatever its parents do.
    workflow_id, node:
        The workflow that it belongs to, and its name there.
    progress:
        How far its run is, or how far its last one came; None: its task hasn't said.
    """

    id: int
    status: Status
    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    task_name: str
    task_kwargs: dict[str, Any]
    scheduled_at: datetime | None
    ready_at: datetime | None
    attempts: int
    abort_requested: bool
    worker_id: int | None
    run_when: RunWhen
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: Any
    error: str | None
    cancel_kind: CancelKind | None
    cancel_reason: str | None
    rescues: int
    claim: int
    gate: Gate | None
    ignores_dependencies: bool
    workflow_id: int | None = None
    node: str | None = None
    progress: Progress | None = None

    @property
    def job_id(self) -> int:
        """The same as `id`: whatever stands for a job has a `job_id`."""
        return self.id

    @property
    def call_string(self) -> str:
        """The job as a person reads it in a log: `module.task[7](a=1)`."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.task_kwargs.items())
        return f"{self.task_name}[{self.id}]({arguments})"

    def log_context(self) -> dict[str, Any]:
        """The job's fields for a log record, as JSON can hold them."""
        fields = {name: getattr(self, name) for name in _JOB_FIELDS}
        context = {name: _for_json(value) for name, value in fields.items()}
        return {**context, "call_string": self.call_string}

    def evolve(self, **changes: Any) -> Job:
        """A copy with `changes`."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableJob(Job):
    """A job that was claimed and whose arguments `json_loads` has refused: it can only fail, by its `problem`."""

    problem: Exception


def _for_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Progress | NotStored):
        return {name: _for_json(inner) for name, inner in dataclasses.asdict(value).items()}
    return value


_JOB_FIELDS = tuple(f.name for f in dataclasses.fields(Job))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job to defer.

    Attributes
    ----------
    scheduled_at:
        An aware datetime before which it doesn't start.
    schedule_in:
        The same as a distance from the moment when it is deferred, by the database's clock; it wins.
    depends_on:
        Ids of jobs that exist.
    after:
        Positions, from 0, of jobs that stand before this one in the same batch.
    before:
        Ids of jobs that exist, have not started, and shall wait for this one too.
    workflow_id, workflow:
        The workflow that it belongs to: the id of one that exists, or the position of one that is sent with it.
    node:
        Its name there.
    depends_on_workflows, after_workflows:
        Whole workflows that it depends on: ids of those that exist, positions of those that are sent with it.
    """

    task_name: str
    task_kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    lock: str | None = None
    queueing_lock: str | None = None
    scheduled_at: datetime | None = None
    schedule_in: timedelta | None = None
    run_when: RunWhen | str | None = None
    depends_on: Sequence[int] = ()
    after: Sequence[int] = ()
    before: Sequence[int] = ()
    workflow_id: int | None = None
    workflow: int | None = None
    node: str | None = None
    depends_on_workflows: Sequence[int] = ()
    after_workflows: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSpec:
    """A workflow to make.

    Attributes
    ----------
    unique:
        Only while no other of its name that is unique, too, is live.
    parent, parent_id:
        The workflow that it is nested in: the position of an earlier one of the same statement, or the id of one that
        exists.
    """

    name: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unique: bool = False
    parent: int | None = None
    parent_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one run of a job ended.

    Attributes
    ----------
    claim:
        The claim that the job was fetched with.
    status:
        A terminal one; todo: it runs again as `retry` says.
    result:
        What the task returned: what JSON can hold.
    error:
        The error with its traceback.
    in_workflow:
        Whether the job belongs to a workflow, whose counts change.
    """

    job_id: int
    claim: int
    status: Status | str
    result: Any = None
    error: str | None = None
    retry: RetryDecision | None = None
    in_workflow: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """An outcome that was not stored: `busy` (another transaction holds the job: send it again) or `stale` (the job is
    no longer this claim's: drop it)."""

    job_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """A job that was taken back from a lost worker, and what it is now: todo, failed or aborted."""

    job_id: int
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many ended jobs a batch deleted (None: another session was at it), and where the next one goes on (None:
    there is nothing left to delete)."""

    deleted: int | None
    reached: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker as the database knows it.

    `queues` is None for a worker of all queues. `heartbeat_age_s` is how many seconds ago its last heartbeat was, by
    the database's clock. `lost_at` is when it was declared lost: its heartbeat had stopped for too long. `running`
    counts the jobs it is doing; `jobs` gives the tasks of the first 20 of them by their ids.
    """

    id: int
    name: str
    hostname: str
    pid: int
    queues: list[str] | None
    concurrency: int
    version: str
    started_at: datetime
    heartbeat_at: datetime
    heartbeat_age_s: float
    lost_at: datetime | None
    running: int
    jobs: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicSpec:
    """A periodic task as the database is told of it; `job` is what is deferred, but for its timestamp."""

    periodic_id: str
    cron: str
    timezone: str
    job: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicState:
    """The last period that was deferred of each periodic task, by name and periodic_id, and the database's time."""

    last: dict[tuple[str, str], int | None]
    clock: float


class PeriodicOutcome(StrEnum):
    """What became of a period that was to be deferred."""

    DEFERRED = "deferred"
    SKIPPED = "skipped"  # a job with the same queueing_lock was waiting
    TAKEN = "taken"  # it was deferred or skipped before, or a later one was
    EARLY = "early"  # its time has not come, by the database's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicDeferral:
    """The answer to the deferral of a period, with the database's time."""

    outcome: PeriodicOutcome
    job_id: int | None
    clock: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicTaskInfo:
    """A periodic task as the database knows it.

    `last_at` is the last period that was deferred or skipped, `last_deferred_at` when that was done, `last_job_id` its
    job; None: it was skipped, since a job with its queueing_lock was waiting. `last_job_status` is None when the job
    was deleted. `next_at` is the next period. `registered_at` is when a worker that knows the task was started last.
    """

    task_name: str
    periodic_id: str
    cron: str
    timezone: str
    queue: str
    registered_at: datetime
    last_at: datetime | None
    last_deferred_at: datetime | None
    last_job_id: int | None
    last_job_status: Status | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a job's row doesn't show of its life: an attempt before the last, a rescue, an act by hand."""

    id: int
    job_id: int
    at: datetime
    type: str
    attempt: int
    worker_id: int | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHolder:
    """An open transaction that keeps a job from being ended: whose it is, and since when."""

    job_id: int
    pid: int
    application_name: str
    state: str | None
    xact_start: datetime | None
