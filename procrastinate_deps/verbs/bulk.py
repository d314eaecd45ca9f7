"""Verbs: acts on many jobs at once, and finding the jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.dependencies import normalise_depends_on
from procrastinate_deps.times import check_aware
from procrastinate_deps.verbs.base import Call, one

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from procrastinate_deps.dependencies import DependsOn
    from procrastinate_deps.jsontext import JsonDumps
    from procrastinate_deps.statements import ActOnJob, JobSelection, Statement
    from procrastinate_deps.verbs.base import Steps

BATCH = 1000
"""How many jobs one statement acts on: a larger one would hold its locks for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOutcome:
    """What an act on many jobs came to, by the jobs' ids in order.

    Attributes
    ----------
    cancelled, abort_requested, retried, deleted:
        Those that were. An act of one kind leaves the other lists empty.
    refused:
        Those that stayed as they were, each with the reason.
    """

    cancelled: list[int] = field(default_factory=list)
    abort_requested: list[int] = field(default_factory=list)
    retried: list[int] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)

    @property
    def done(self) -> list[int]:
        """All that were not refused."""
        return self.cancelled + self.abort_requested + self.retried + self.deleted


def cancel_jobs(job_ids: DependsOn, abort: bool = False, connection: Any = None) -> Call[BulkOutcome]:
    """Cancel jobs that have not started; their children are decided by their rules.

    Statements of 1000 jobs each: one that is refused stops no other.

    Parameters
    ----------
    abort:
        Ask running ones to stop, too.

    Returns
    -------
    A `BulkOutcome`: the ids of those `cancelled`, of those `abort_requested`, and of those `refused` with the reasons.
    """
    return _by_batches(job_ids, lambda ids: statements.cancel_jobs(ids, abort), connection)


def delete_jobs(job_ids: DependsOn, force: bool = False, connection: Any = None) -> Call[BulkOutcome]:
    """Delete jobs that have ended, but for those that an unfinished child still has.

    Parameters
    ----------
    force:
        Delete live ones, too, which count as cancelled for their children, and those that an unfinished child has.

    Returns
    -------
    A `BulkOutcome`: the ids of those `deleted`, and of those `refused` with the reasons.
    """
    return _by_batches(job_ids, lambda ids: statements.delete_jobs(ids, force), connection)


def retry_jobs(
    job_ids: DependsOn,
    retry_at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    lock: str | None = None,
    reset_dependents: bool = True,
    ignore_dependencies: bool = False,
    connection: Any = None,
) -> Call[BulkOutcome]:
    """Run jobs again that have ended, or whose workers are lost, as `retry_job_by_id` does each of them.

    Up to 1000 jobs are retried together: a parent and its child, in whatever order.

    Returns
    -------
    A `BulkOutcome`: the ids of those `retried`, and of those `refused` with the reasons.
    """
    at = None if retry_at is None else check_aware(retry_at, "retry_at")

    def act(ids: Sequence[int]) -> Statement[list[ActOnJob]]:
        return statements.retry_jobs(ids, at, priority, queue, lock, reset_dependents, ignore_dependencies)

    return _by_batches(job_ids, act, connection)


def select_jobs(chosen: JobSelection, limit: int = BATCH, after: int = 0, connection: Any = None) -> Call[list[int]]:
    """Ids of the jobs that all filters of a `JobSelection` fit, in order.

    Parameters
    ----------
    limit:
        How many at most. Default: 1000.
    after:
        Only greater ids: pass the last one of the page before.
    """
    return one(statements.select_jobs(chosen, limit, after), connection)


def last_job_id(connection: Any = None) -> Call[int]:
    """The greatest id of a job; 0 where there are none."""
    return one(statements.last_job(), connection)


def _by_batches(
    job_ids: DependsOn, act: Callable[[Sequence[int]], Statement[list[ActOnJob]]], connection: Any
) -> Call[BulkOutcome]:
    ids = sorted(normalise_depends_on(job_ids))

    def steps(json_dumps: JsonDumps) -> Steps[BulkOutcome]:
        outcome = BulkOutcome()
        for start in range(0, len(ids), BATCH):
            acts: list[ActOnJob] = yield act(ids[start : start + BATCH])
            for each in acts:
                if each.outcome == "refused":
                    outcome.refused[each.job_id] = each.reason or ""
                else:
                    getattr(outcome, each.outcome).append(each.job_id)
        return outcome

    return Call(steps, connection)
