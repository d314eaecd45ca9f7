"""Reading what is there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from procrastinate_deps.exceptions import JobNotFound
from procrastinate_deps.jobs import Event, Job, Status, WorkerInfo
from procrastinate_deps.statements.base import (
    Row,
    Statement,
    read_nothing,
    read_value,
    read_values,
    seconds,
    utc,
    utc_or_none,
)
from procrastinate_deps.statements.managing import STALLED_AFTER_S
from procrastinate_deps.statements.rows import read_job, read_jobs, read_status
from procrastinate_deps.validation import check_job_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from procrastinate_deps.jsontext import JsonLoads

PAGE_SIZE = 1000
"""How many rows a list gives at most, unless told."""


def get_job(job_id: int) -> Statement[Job]:
    """The job. Raises JobNotFound."""
    return Statement("get_job", (check_job_id(job_id),), partial(_read_one_job, job_id))


def get_job_status(job_id: int) -> Statement[Status]:
    """The job's status. Raises JobNotFound."""
    return Statement("get_job_status", (check_job_id(job_id),), partial(_read_job_status, job_id))


def list_jobs(
    id: int | None = None,  # noqa: A002 - procrastinate's name
    queue: str | None = None,
    task: str | None = None,
    status: Status | str | None = None,
    lock: str | None = None,
    queueing_lock: str | None = None,
    worker_id: int | None = None,
    limit: int | None = PAGE_SIZE,
    after: int | None = None,
    workflow_id: int | None = None,
) -> Statement[list[Job]]:
    """The jobs that all given filters fit, by id.

    Parameters
    ----------
    limit:
        How many at most. None: all.
    after:
        Only jobs with a greater id: the last one of the page before.
    workflow_id:
        Only jobs of this workflow, and of those nested in it.
    """
    its_status = None if status is None else Status(status).value
    values = (id, queue, task, its_status, lock, queueing_lock, worker_id, after, limit)
    if workflow_id is not None:
        return Statement("list_workflow_jobs", (*values, workflow_id), read_jobs)
    return Statement("list_jobs", values, read_jobs)


def stalled_jobs(
    seconds_since_heartbeat: timedelta | float = STALLED_AFTER_S,
    queue: str | None = None,
    task_name: str | None = None,
) -> Statement[list[Job]]:
    """The running jobs whose worker gave no sign of life for so long."""
    return Statement("stalled_jobs", (seconds(seconds_since_heartbeat), queue, task_name), read_jobs)


def list_queues(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Statement[list[dict[str, Any]]]:
    """The queues that have jobs or are paused, with counts by status."""
    return Statement("list_queues", _filters(queue, task, status, lock), _read_queues)


def list_tasks(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Statement[list[dict[str, Any]]]:
    """The tasks that have jobs, with counts by status."""
    return Statement("list_tasks", _filters(queue, task, status, lock), _read_counts)


def list_locks(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Statement[list[dict[str, Any]]]:
    """The locks that jobs have, with counts by status."""
    return Statement("list_locks", _filters(queue, task, status, lock), _read_counts)


def get_lock_holder(lock: str) -> Statement[tuple[int, Status] | None]:
    """Id and status of the job that has the lock: it is doing, or todo and next to start; None: nobody has it."""
    return Statement("get_lock_holder", (lock,), _read_holder)


def list_paused_queues() -> Statement[list[str]]:
    return Statement("list_paused_queues", (), read_values)


def list_workers() -> Statement[list[WorkerInfo]]:
    return Statement("list_workers", (), _read_workers)


def parent_statuses(job_id: int) -> Statement[dict[int, str]]:
    """How the direct parents stand, deleted ones included, by id; {} without parents."""
    return Statement("parent_statuses", (check_job_id(job_id),), _read_parent_statuses)


def get_parents(job_id: int, limit: int | None = PAGE_SIZE, after: int | None = None) -> Statement[dict[int, Status]]:
    """The direct parents and their statuses, by id; `after` is the last id of the page before."""
    return Statement("get_parents", (check_job_id(job_id), after, limit), _read_statuses)


def get_children(job_id: int, limit: int | None = PAGE_SIZE, after: int | None = None) -> Statement[dict[int, Status]]:
    """The direct children and their statuses, by id; `after` is the last id of the page before."""
    return Statement("get_children", (check_job_id(job_id), after, limit), _read_statuses)


def list_events(job_id: int) -> Statement[list[Event]]:
    """What was done with the job, oldest first, as far as its row doesn't show it."""
    return Statement("list_events", (check_job_id(job_id),), _read_events)


def check_connection() -> Statement[bool]:
    """Whether the tables are there."""
    return Statement("check_connection", (), read_value)


def array_types() -> Statement[None]:
    """Nothing but a value of each array type that statements have."""
    return Statement("array_types", (), read_nothing)


def backend_pid() -> Statement[int]:
    """The process of the server that runs this."""
    return Statement("backend_pid", (), read_value)


def claimed_jobs(worker_id: int) -> Statement[list[tuple[int, int]]]:
    """Id and claim of what this worker runs, as the database has it."""
    return Statement("claimed_jobs", (worker_id,), _read_claims)


def schema_revision() -> Statement[str | None]:
    """The migration that the schema is at; None: it was downgraded to nothing."""
    return Statement("schema_revision", (), _read_revision)


def _read_claims(rows: Sequence[Row], loads: JsonLoads) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in rows]


def _filters(
    queue: str | None, task: str | None, status: Status | str | None, lock: str | None
) -> tuple[str | None, str | None, str | None, str | None]:
    return queue, task, None if status is None else Status(status).value, lock


def _read_one_job(job_id: int, rows: Sequence[Row], loads: JsonLoads) -> Job:
    if not rows:
        raise JobNotFound(job_id=job_id)
    return read_job(rows[0], loads)


def _read_job_status(job_id: int, rows: Sequence[Row], loads: JsonLoads) -> Status:
    if not rows:
        raise JobNotFound(job_id=job_id)
    return read_status(rows[0][0])


def _read_counts(rows: Sequence[Row], loads: JsonLoads) -> list[dict[str, Any]]:
    statuses = [status.value for status in Status]
    return [{"name": row[0], "jobs_count": sum(row[1:8]), **dict(zip(statuses, row[1:8], strict=True))} for row in rows]


def _read_queues(rows: Sequence[Row], loads: JsonLoads) -> list[dict[str, Any]]:
    return [{**counts, "paused": row[8]} for counts, row in zip(_read_counts(rows, loads), rows, strict=True)]


def _read_holder(rows: Sequence[Row], loads: JsonLoads) -> tuple[int, Status] | None:
    return (rows[0][0], read_status(rows[0][1])) if rows else None


def _read_statuses(rows: Sequence[Row], loads: JsonLoads) -> dict[int, Status]:
    return {row[0]: read_status(row[1]) for row in rows}


def _read_parent_statuses(rows: Sequence[Row], loads: JsonLoads) -> dict[int, str]:
    return {row[0]: row[1] for row in rows}


def _read_workers(rows: Sequence[Row], loads: JsonLoads) -> list[WorkerInfo]:
    return [
        WorkerInfo(
            id=row[0],
            name=row[1],
            hostname=row[2],
            pid=row[3],
            queues=row[4],
            concurrency=row[5],
            version=row[6],
            started_at=utc(row[7]),
            heartbeat_at=utc(row[8]),
            heartbeat_age_s=row[11],
            lost_at=utc_or_none(row[9]),
            running=row[10],
            jobs=dict(zip(row[12] or (), row[13] or (), strict=True)),
        )
        for row in rows
    ]


def _read_events(rows: Sequence[Row], loads: JsonLoads) -> list[Event]:
    return [
        Event(
            id=row[0],
            job_id=row[1],
            at=utc(row[2]),
            type=row[3],
            attempt=row[4],
            worker_id=row[5],
            detail=loads(row[6]),
        )
        for row in rows
    ]


def _read_revision(rows: Sequence[Row], loads: JsonLoads) -> str | None:
    return rows[0][0] if rows else None
