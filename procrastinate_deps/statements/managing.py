"""Acts on jobs and queues by hand, and what keeps the tables small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.jobs import Status
from procrastinate_deps.statements.base import Statement, read_nothing, read_value, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

STALLED_AFTER_S = 30.0
"""A worker whose last heartbeat is older than this is taken for lost."""


def cancel_job(job_id: int, abort: bool = False, delete_job: bool = False) -> Statement[bool]:
    """Cancel a waiting job; with `abort` ask a running one to stop. False: there was nothing to cancel."""
    return Statement("cancel_job", (job_id, abort, delete_job), read_value, savepoint=True)


def retry_job(
    job_id: int,
    retry_at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    lock: str | None = None,
    reset_dependents: bool = True,
    ignore_dependencies: bool = False,
    stalled_after: timedelta | float = STALLED_AFTER_S,
) -> Statement[None]:
    """Run a job again that has ended, or whose worker is lost, and let what depends on it wait for it again."""
    values = (job_id, retry_at, priority, queue, lock, reset_dependents, ignore_dependencies, seconds(stalled_after))
    return Statement("retry_job", values, read_nothing, savepoint=True)


def prune_jobs(
    older_than: timedelta | float, statuses: Iterable[Status | str], queue: str | None, max_jobs: int
) -> Statement[int]:
    """Delete up to `max_jobs` jobs that ended longer ago; how many. Never one that an unfinished child still has."""
    values = (seconds(older_than), [Status(status).value for status in statuses], queue, max_jobs)
    return Statement("prune_jobs", values, read_value)


def pause_queue(queue: str) -> Statement[bool]:
    """Let no more of the queue's jobs start. False: it was paused already."""
    return Statement("pause_queue", (queue,), read_value)


def resume_queue(queue: str) -> Statement[bool]:
    """Let the queue's jobs start again. False: it was not paused."""
    return Statement("resume_queue", (queue,), read_value)
