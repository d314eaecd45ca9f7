"""Acts on jobs and queues by hand, and what keeps the tables small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.jobs import Pruned, Status
from procrastinate_deps.statements.base import Row, Statement, read_nothing, read_value, seconds, utc_or_none
from procrastinate_deps.validation import check_job_id, check_new_values, check_queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from procrastinate_deps.jsontext import JsonLoads

STALLED_AFTER_S = 30.0
"""A worker whose last heartbeat is older than this is taken for lost."""


def notify(channel: str, payload: str) -> Statement[None]:
    """Tell something to everybody who listens to the channel."""
    return Statement("notify", (channel, payload), read_nothing)


def cancel_job(job_id: int, abort: bool = False, delete_job: bool = False) -> Statement[bool]:
    """Cancel a waiting job; with `abort` ask a running one to stop. False: there was nothing to cancel."""
    return Statement("cancel_job", (check_job_id(job_id), abort, delete_job), read_value, savepoint=True)


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
    values = (
        check_job_id(job_id),
        retry_at,
        *check_new_values(priority, queue, lock),
        reset_dependents,
        ignore_dependencies,
        seconds(stalled_after),
    )
    return Statement("retry_job", values, read_nothing, savepoint=True)


def prune_jobs(
    older_than: timedelta | float,
    statuses: Iterable[Status | str],
    queue: str | None,
    max_jobs: int,
    ended_from: datetime | None = None,
    wait: bool = True,
) -> Statement[Pruned]:
    """Delete up to `max_jobs` jobs that ended longer ago, oldest first. Never one that an unfinished child still has.

    Parameters
    ----------
    ended_from:
        `reached` of the batch before: where to go on.
    wait:
        While another session deletes: wait for it, or delete nothing.
    """
    values = (seconds(older_than), _values(statuses), queue, max_jobs, ended_from, wait)
    return Statement("prune_jobs", values, _read_pruned)


def count_prunable(
    older_than: timedelta | float, statuses: Iterable[Status | str], queue: str | None, limit: int | None = None
) -> Statement[int]:
    """How many jobs `prune_jobs` would delete, batch by batch; `limit`: those without a workflow, up to so many."""
    return Statement("count_prunable", (seconds(older_than), _values(statuses), queue, limit), read_value)


def pause_queue(queue: str) -> Statement[bool]:
    """Let no more of the queue's jobs start. False: it was paused already."""
    return Statement("pause_queue", (check_queue(queue),), read_value)


def resume_queue(queue: str) -> Statement[bool]:
    """Let the queue's jobs start again. False: it was not paused."""
    return Statement("resume_queue", (check_queue(queue),), read_value)


def _values(statuses: Iterable[Status | str]) -> list[str]:
    return [Status(status).value for status in statuses]


def _read_pruned(rows: Sequence[Row], loads: JsonLoads) -> Pruned:
    return Pruned(deleted=rows[0][0], reached=utc_or_none(rows[0][1]))
