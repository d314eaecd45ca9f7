"""Acts on many jobs at once, and finding them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from procrastinate_deps.jobs import Status
from procrastinate_deps.statements.base import Row, Statement, read_value, read_values, seconds
from procrastinate_deps.statements.managing import STALLED_AFTER_S
from procrastinate_deps.validation import check_new_values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from procrastinate_deps.jsontext import JsonLoads

SELECT_TIMEOUT_S = 600.0
"""For jobs that no index finds millions of rows are read."""


@dataclass(frozen=True, slots=True)
class ActOnJob:
    """What an act did with one job: `outcome` is "cancelled", "abort_requested", "retried", "deleted" or "refused", the
    last for a `reason`."""

    job_id: int
    outcome: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSelection:
    """Which jobs are meant: those that all given filters fit.

    Attributes
    ----------
    workflow_id:
        Of this workflow, and of those nested in it.
    older_than:
        Before this moment they ended, or were created where they have not ended.
    first_id, last_id:
        The range that their ids are in, both included.
    """

    status: Status | None = None
    queue: str | None = None
    task: str | None = None
    lock: str | None = None
    workflow_id: int | None = None
    older_than: datetime | None = None
    first_id: int = 1
    last_id: int = 2**63 - 1


def select_jobs(chosen: JobSelection, limit: int, after: int = 0) -> Statement[list[int]]:
    """Ids of the jobs that are meant, in order; `after` is the last one of the page before."""
    status = None if chosen.status is None else chosen.status.value
    values = (
        status, chosen.queue, chosen.task, chosen.lock, chosen.older_than,
        max(chosen.first_id, after + 1), chosen.last_id, limit,
    )  # fmt: skip
    if chosen.workflow_id is not None:
        return Statement("select_workflow_jobs", (*values, chosen.workflow_id), read_values, timeout_s=SELECT_TIMEOUT_S)
    live = chosen.status is not None and not chosen.status.is_terminal
    if live:
        return Statement("select_live_jobs", values, read_values, timeout_s=SELECT_TIMEOUT_S)
    return Statement("select_jobs", values, read_values, timeout_s=SELECT_TIMEOUT_S)


def last_job() -> Statement[int]:
    """The greatest id of a job; 0 where there are none."""
    return Statement("last_job", (), read_value)


def cancel_jobs(job_ids: Sequence[int], abort: bool = False) -> Statement[list[ActOnJob]]:
    """Cancel those that have not started; with `abort` ask the running ones to stop."""
    return Statement("cancel_jobs", (list(job_ids), abort), _read_acts, savepoint=True)


def delete_jobs(job_ids: Sequence[int], force: bool = False) -> Statement[list[ActOnJob]]:
    """Delete those that have ended and that no unfinished child has; by force all of them."""
    return Statement("delete_jobs", (list(job_ids), force), _read_acts, savepoint=True)


def retry_jobs(
    job_ids: Sequence[int],
    retry_at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    lock: str | None = None,
    reset_dependents: bool = True,
    ignore_dependencies: bool = False,
    stalled_after: timedelta | float = STALLED_AFTER_S,
) -> Statement[list[ActOnJob]]:
    """Run jobs again, as `retry_job` does each of them; a refusal of one stops no other."""
    ids = list(job_ids)
    new_values = check_new_values(priority, queue, lock)
    values = (ids, retry_at, *new_values, reset_dependents, ignore_dependencies, seconds(stalled_after))
    return Statement("retry_jobs", values, _read_acts, savepoint=True)


def _read_acts(rows: Sequence[Row], loads: JsonLoads) -> list[ActOnJob]:
    return [ActOnJob(row[0], row[1], row[2]) for row in rows]
