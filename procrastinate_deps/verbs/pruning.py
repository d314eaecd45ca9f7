"""Verbs: deleting what has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps import statements
from procrastinate_deps.jobs import TERMINAL, Pruned, Status
from procrastinate_deps.verbs.base import Call, Steps, one

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from procrastinate_deps.jsontext import JsonDumps

PRUNE_BATCH = 1000
"""How many jobs one statement deletes: a larger one would hold its locks for too long."""


def delete_old_jobs(
    nb_hours: float,
    queue: str | None = None,
    include_failed: bool = False,
    include_cancelled: bool = False,
    include_aborted: bool = False,
) -> Call[int]:
    """Delete jobs that succeeded more than `nb_hours` ago, and those that ended otherwise as asked for.

    A job that an unfinished child still has is left for a later time.

    Returns
    -------
    How many were deleted.
    """
    included = {
        Status.SUCCEEDED: True,
        Status.FAILED: include_failed,
        Status.CANCELLED: include_cancelled,
        Status.ABORTED: include_aborted,
    }
    return prune_jobs(nb_hours * 3600, [status for status, wanted in included.items() if wanted], queue)


def prune_jobs(
    older_than: timedelta | float, statuses: Collection[Status | str] = TERMINAL, queue: str | None = None
) -> Call[int]:
    """Delete jobs that ended longer ago, in small batches; one that an unfinished child still has is left.

    Parameters
    ----------
    older_than:
        A timedelta, or seconds.
    statuses:
        How they ended. Default: however.
    queue:
        Only this queue's. Default: all.

    Returns
    -------
    How many were deleted.
    """

    def steps(json_dumps: JsonDumps) -> Steps[int]:
        total = 0
        reached: datetime | None = None
        while True:
            batch: Pruned = yield statements.prune_jobs(older_than, statuses, queue, PRUNE_BATCH, reached)
            total += batch.deleted or 0
            reached = batch.reached
            if reached is None:
                return total

    return Call(steps, None)


def count_prunable_jobs(
    older_than: timedelta | float,
    statuses: Collection[Status | str] = TERMINAL,
    queue: str | None = None,
    limit: int | None = None,
) -> Call[int]:
    """How many jobs `prune_jobs` would delete now.

    Parameters
    ----------
    limit:
        Jobs that belong to no workflow are counted up to here. Default: all.
    """
    return one(statements.count_prunable(older_than, statuses, queue, limit))
