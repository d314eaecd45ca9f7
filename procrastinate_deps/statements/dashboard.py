"""What the dashboard reads. With millions of jobs it stays fast: it reads an index, or no more than so many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.jobs import CancelKind, Gate, Status
from procrastinate_deps.statements.base import Row, Statement, read_value, read_values, utc, utc_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from procrastinate_deps.jsontext import JsonLoads

COUNT_CAP = 10_000
"""Jobs of a kind are counted up to here; above, their number is estimated."""

SCAN_LIMIT = 200_000
"""How many jobs a page looks through for filters that no index serves."""

ARGUMENT_LIMIT = 100_000
"""Arguments are searched in so many of the newest jobs."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs of a kind there are; of an estimate, `exact` is False."""

    jobs: int
    exact: bool

    def __add__(self, other: Count) -> Count:
        return Count(self.jobs + other.jobs, self.exact and other.exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """A queue and its depth. Of `ready` there are more where `ready_capped`; the others are counted to the cap too."""

    name: str
    ready: int
    ready_capped: bool
    oldest_ready_at: datetime | None
    doing: int
    scheduled: int
    locked: int
    blocked: int
    paused_at: datetime | None
    runs_last_hour: int
    failures_last_hour: int
    mean_wait_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRow:
    """A job that failed, and the last line of why. `task_kwargs` is None where they are large."""

    id: int
    status: Status
    queue: str
    task_name: str
    attempts: int
    finished_at: datetime
    error: str
    task_kwargs: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """What a list shows of a job. `task_kwargs` is None where they are large; of long texts there is a piece."""

    id: int
    status: Status
    queue: str
    task_name: str
    task_kwargs: Any
    args_bytes: int
    priority: int
    lock: str | None
    attempts: int
    rescues: int
    gate: Gate | None
    run_when: RunWhen
    created_at: datetime
    scheduled_at: datetime | None
    ready_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: int | None
    abort_requested: bool
    cancel_kind: CancelKind | None
    cancel_reason: str | None
    error: str
    workflow_id: int | None
    node: str | None
    progress_done: float | None
    progress_total: float | None
    progress_message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRow:
    """What a graph shows of a job."""

    id: int
    task_name: str
    status: Status
    created_at: datetime
    node: str | None
    workflow_id: int | None
    run_when: RunWhen
    cancel_kind: CancelKind | None
    started_at: datetime | None
    finished_at: datetime | None
    gate: Gate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows.

    Attributes
    ----------
    gate:
        Of jobs that are todo: "ready", "scheduled" or "lock".
    argument_path, argument_value:
        Jobs with this value, as text, at this place of their arguments.
    argument_text:
        Jobs with this text somewhere in their arguments' JSON, in upper or lower case.
    """

    status: Status | None = None
    gate: str | None = None
    queue: str | None = None
    task: str | None = None
    workflow_id: int | None = None
    argument_path: tuple[str, ...] = ()
    argument_value: str | None = None
    argument_text: str | None = None

    @property
    def by_argument(self) -> bool:
        return bool(self.argument_path) or self.argument_text is not None

    def values(self) -> tuple[Any, ...]:
        path = list(self.argument_path) or None
        status = None if self.status is None else self.status.value
        return status, self.queue, self.task, self.gate, path, self.argument_value, self.argument_text


def dashboard_counts(cap: int = COUNT_CAP) -> Statement[dict[str, Count]]:
    """How many jobs are blocked, ready, scheduled, locked, doing, succeeded, failed, cancelled and aborted."""
    return Statement("dashboard_counts", (cap,), _read_counts)


def dashboard_queues(cap: int = COUNT_CAP) -> Statement[list[QueueRow]]:
    """The queues that have jobs to run, are paused, or ran jobs within the last hour."""
    return Statement("dashboard_queues", (cap,), _read_queues)


def dashboard_pulse() -> Statement[int | None]:
    """A number that changes some time after a job, worker, queue or workflow did."""
    return Statement("dashboard_pulse", (), read_value)


def dashboard_failures(limit: int) -> Statement[list[FailureRow]]:
    """The jobs that failed last, latest first."""
    return Statement("dashboard_failures", (limit,), _read_failures)


def dashboard_window(before: int | None, jobs: int) -> Statement[int | None]:
    """The id of the last of so many jobs, counted down from an id; None: there are none."""
    return Statement("dashboard_window", (before, jobs), read_value)


def dashboard_jobs(
    chosen: JobFilter, limit: int, before: int | None = None, down_to: int | None = None, scan: int = SCAN_LIMIT
) -> Statement[list[JobRow]]:
    """Jobs among the `scan` newest with ids below `before` and not below `down_to`, newest first."""
    return Statement("dashboard_jobs", (*chosen.values(), before, scan, down_to, limit), _read_jobs)


def dashboard_few(
    chosen: JobFilter, limit: int, before: int | None = None, down_to: int | None = None
) -> Statement[list[JobRow]]:
    """The same for a status that few jobs have, all of which are looked at."""
    return Statement("dashboard_few", (*chosen.values(), before, down_to, limit), _read_jobs)


def dashboard_of_workflow(
    chosen: JobFilter, limit: int, before: int | None = None, down_to: int | None = None
) -> Statement[list[JobRow]]:
    """The same for the jobs of the filter's workflow and of those nested in it."""
    values = (*chosen.values(), before, down_to, chosen.workflow_id, limit)
    return Statement("dashboard_of_workflow", values, _read_jobs)


def dashboard_workflow_jobs(workflow_id: int, limit: int) -> Statement[list[GraphRow]]:
    """The first jobs of a workflow and of those nested in it, by id."""
    return Statement("dashboard_workflow_jobs", (workflow_id, limit), _read_graph_jobs)


def dashboard_graph_jobs(ids: Sequence[int]) -> Statement[list[GraphRow]]:
    """These jobs, by id; those that are gone are left out."""
    return Statement("dashboard_graph_jobs", (list(ids),), _read_graph_jobs)


def dashboard_rows(ids: Sequence[int]) -> Statement[list[JobRow]]:
    """These jobs, by id; those that are gone are left out."""
    return Statement("dashboard_rows", (list(ids),), _read_jobs)


def dashboard_edges(ids: Sequence[int]) -> Statement[list[tuple[int, int]]]:
    """The edges between these jobs: pairs of a parent and a child."""
    return Statement("dashboard_edges", (list(ids),), _read_edges)


def dashboard_neighbourhood(job_id: int, steps: int, fan: int, limit: int) -> Statement[list[int]]:
    """Ids of the jobs within so many steps up or down, nearest first; of each, `fan` parents and children at most."""
    return Statement("dashboard_neighbourhood", (job_id, steps, fan, limit), read_values)


def _read_counts(rows: Sequence[Row], loads: JsonLoads) -> dict[str, Count]:
    return {row[0]: Count(row[1] if row[2] is None else row[2], row[2] is None) for row in rows}


def _read_queues(rows: Sequence[Row], loads: JsonLoads) -> list[QueueRow]:
    return [
        QueueRow(
            name=row[0],
            ready=row[1],
            ready_capped=row[2],
            oldest_ready_at=utc_or_none(row[3]),
            doing=row[4],
            scheduled=row[5],
            locked=row[6],
            blocked=row[7],
            paused_at=utc_or_none(row[8]),
            runs_last_hour=row[9],
            failures_last_hour=row[10],
            mean_wait_s=row[11],
        )
        for row in rows
    ]


def _read_failures(rows: Sequence[Row], loads: JsonLoads) -> list[FailureRow]:
    return [
        FailureRow(
            id=row[0],
            status=Status(row[1]),
            queue=row[2],
            task_name=row[3],
            attempts=row[4],
            finished_at=utc(row[5]),
            error=last_line(row[6]),
            task_kwargs=_arguments(row[7], loads),
        )
        for row in rows
    ]


def _read_jobs(rows: Sequence[Row], loads: JsonLoads) -> list[JobRow]:
    return [
        JobRow(
            id=row[0],
            status=Status(row[1]),
            queue=row[2],
            task_name=row[3],
            task_kwargs=_arguments(row[4], loads),
            args_bytes=row[5],
            priority=row[6],
            lock=row[7],
            attempts=row[8],
            rescues=row[9],
            gate=None if row[10] is None else Gate(row[10]),
            run_when=RunWhen(row[11]),
            created_at=utc(row[12]),
            scheduled_at=utc_or_none(row[13]),
            ready_at=utc_or_none(row[14]),
            started_at=utc_or_none(row[15]),
            finished_at=utc_or_none(row[16]),
            worker_id=row[17],
            abort_requested=row[18],
            cancel_kind=None if row[19] is None else CancelKind(row[19]),
            cancel_reason=row[20],
            error=last_line(row[21]),
            workflow_id=row[22],
            node=row[23],
            progress_done=row[24],
            progress_total=row[25],
            progress_message=row[26],
        )
        for row in rows
    ]


def _read_graph_jobs(rows: Sequence[Row], loads: JsonLoads) -> list[GraphRow]:
    return [
        GraphRow(
            id=row[0],
            task_name=row[1],
            status=Status(row[2]),
            created_at=utc(row[3]),
            node=row[4],
            workflow_id=row[5],
            run_when=RunWhen(row[6]),
            cancel_kind=None if row[7] is None else CancelKind(row[7]),
            started_at=utc_or_none(row[8]),
            finished_at=utc_or_none(row[9]),
            gate=None if row[10] is None else Gate(row[10]),
        )
        for row in rows
    ]


def _read_edges(rows: Sequence[Row], loads: JsonLoads) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in rows]


def _arguments(text: str | None, loads: JsonLoads) -> Any:
    """None: they are large, or nested so deeply that they can't be read; a list must not fail for one such job."""
    try:
        return None if text is None else loads(text)
    except RecursionError:
        return None


def last_line(error: str | None) -> str:
    """The line of a traceback that says what it was."""
    lines = (error or "").strip().splitlines()
    return lines[-1] if lines else ""
