"""Verbs: what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.statements import PAGE_SIZE, STALLED_AFTER_S, STATS_DIMENSIONS, STATS_STEP_S
from procrastinate_deps.verbs.base import Call, one

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from procrastinate_deps.durations import JobStats
    from procrastinate_deps.jobs import Event, Job, Status, WorkerInfo


def get_job(job_id: int, connection: Any = None) -> Call[Job]:
    """The job as it is now. Raises JobNotFound."""
    return one(statements.get_job(job_id), connection)


def get_job_status(job_id: int, connection: Any = None) -> Call[Status]:
    """The job's status. Raises JobNotFound."""
    return one(statements.get_job_status(job_id), connection)


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
    connection: Any = None,
) -> Call[list[Job]]:
    """The jobs that all given filters fit, by id.

    Parameters
    ----------
    limit:
        How many at most; None: all. Default: 1000.
    after:
        Only jobs with a greater id: pass the last one of the page before.
    workflow_id:
        Only jobs of this workflow, and of those nested in it.
    """
    found = statements.list_jobs(id, queue, task, status, lock, queueing_lock, worker_id, limit, after, workflow_id)
    return one(found, connection)


def list_queues(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Call[list[dict[str, Any]]]:
    """The queues with jobs that the filters fit, and paused ones: `name`, `jobs_count`, counts by status, `paused`."""
    return one(statements.list_queues(queue, task, status, lock))


def list_tasks(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Call[list[dict[str, Any]]]:
    """The tasks with jobs that the filters fit: `name`, `jobs_count`, a count by status."""
    return one(statements.list_tasks(queue, task, status, lock))


def list_locks(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Call[list[dict[str, Any]]]:
    """The locks of jobs that the filters fit: `name`, `jobs_count`, a count by status."""
    return one(statements.list_locks(queue, task, status, lock))


def get_lock_holder(lock: str) -> Call[tuple[int, Status] | None]:
    """Id and status of the job that has the lock: it is doing, or todo and next to start; None: nobody has it."""
    return one(statements.get_lock_holder(lock))


def list_paused_queues() -> Call[list[str]]:
    """Names of the queues that nothing is fetched from, in order."""
    return one(statements.list_paused_queues())


def list_workers() -> Call[list[WorkerInfo]]:
    """The workers that the database knows, by id, each with the number of jobs it is doing and the first 20 of them."""
    return one(statements.list_workers())


def get_stats(
    since: datetime,
    until: datetime | None = None,
    queue: str | None = None,
    task: str | None = None,
    step: timedelta | float = STATS_STEP_S,
    by: Collection[str] = STATS_DIMENSIONS,
    histograms: bool = True,
) -> Call[list[JobStats]]:
    """What runs came to, for charts: how many ended, how long they took and how long their jobs had waited.

    Workers add their numbers every 10 seconds and when they stop; they are kept for 7 days.

    Parameters
    ----------
    since, until:
        Aware datetimes; the step that `since` is in is counted whole. Default of `until`: now.
    queue, task:
        Only these. Default: all.
    step:
        The step of time, a whole number of minutes as a timedelta or in seconds. Default: one minute.
    by:
        What is counted apart: some of "queue", "task" and "status". Default: each of them.
    histograms:
        Whether percentiles are wanted; without them a week is read several times faster. Default: yes.

    Returns
    -------
    One `JobStats` for each step and what is counted apart, where runs ended, by time.
    """
    return one(statements.get_stats(since, until, queue, task, step, by, histograms))


def list_events(job_id: int) -> Call[list[Event]]:
    """What its row doesn't show of a job's life, oldest first: attempts before the last, rescues, acts by hand."""
    return one(statements.list_events(job_id))


def get_parent_statuses(job_id: int, connection: Any = None) -> Call[dict[int, str]]:
    """How the direct parents stand, deleted ones included, by id: `{parent_id: "succeeded" | ...}`."""
    return one(statements.parent_statuses(job_id), connection)


def get_parents(job_id: int, limit: int | None = PAGE_SIZE, after: int | None = None) -> Call[dict[int, Status]]:
    """The direct parents and their statuses, by id. `after` is the last id of the page before."""
    return one(statements.get_parents(job_id, limit, after))


def get_children(job_id: int, limit: int | None = PAGE_SIZE, after: int | None = None) -> Call[dict[int, Status]]:
    """The direct children and their statuses, by id. `after` is the last id of the page before."""
    return one(statements.get_children(job_id, limit, after))


def get_stalled_jobs(
    seconds_since_heartbeat: float = STALLED_AFTER_S, queue: str | None = None, task_name: str | None = None
) -> Call[list[Job]]:
    """The running jobs whose worker gave no sign of life for so many seconds, or is not known any more."""
    return one(statements.stalled_jobs(seconds_since_heartbeat, queue, task_name))
