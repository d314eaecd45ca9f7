"""Tasks that every app has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procrastinate_deps.blueprints import Blueprint
    from procrastinate_deps.context import JobContext

QUEUE = "builtin"


async def remove_old_jobs(
    context: JobContext,
    *,
    max_hours: float,
    queue: str | None = None,
    remove_failed: bool = False,
    remove_cancelled: bool = False,
    remove_aborted: bool = False,
    timestamp: int | None = None,
) -> int:
    """Delete jobs that succeeded more than `max_hours` ago, and those that ended otherwise as asked for.

    A job that an unfinished child still has is left for a later time.

    Parameters
    ----------
    queue:
        Only this queue's. Default: all.
    remove_failed, remove_cancelled, remove_aborted:
        Whether jobs that ended so are deleted too. Default: no.
    timestamp:
        What a periodic task gets; not used.

    Returns
    -------
    How many were deleted.
    """
    return await context.app.job_manager.delete_old_jobs(
        max_hours,
        queue=queue,
        include_failed=remove_failed,
        include_cancelled=remove_cancelled,
        include_aborted=remove_aborted,
    )


def register(app: Blueprint) -> None:
    """Give the app these tasks, in the queue "builtin". A function can be a task of several apps, a Task can't."""
    app.task(name=f"{__name__}.{remove_old_jobs.__name__}", queue=QUEUE, pass_context=True)(remove_old_jobs)
