"""Verbs: putting jobs in and joining them; acts on one job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.dependencies import DependsOn, HasJobId, normalise_depends_on
from procrastinate_deps.exceptions import LockNotAvailable, TransitionRefused
from procrastinate_deps.jobs import DeleteJobCondition, Job, JobSpec, Outcome, Status
from procrastinate_deps.times import check_aware
from procrastinate_deps.validation import the_one_job
from procrastinate_deps.verbs.base import Call, Steps, one

if TYPE_CHECKING:
    from datetime import datetime

    from procrastinate_deps.jsontext import JsonDumps


def defer_jobs(jobs: Sequence[JobSpec], connection: Any = None) -> Call[list[int]]:
    """Defer jobs and the edges between them, all or nothing.

    Parameters
    ----------
    jobs:
        In an order in which parents come before their children.
    connection:
        A connection of your own: the jobs become part of its transaction.

    Returns
    -------
    The jobs' ids, in the same order.

    Raises
    ------
    AlreadyEnqueued, DependencyNotFound, CircularDependency, InvalidArguments
    """

    def steps(json_dumps: JsonDumps) -> Steps[list[int]]:
        ids: list[int] = yield statements.defer_jobs(jobs, json_dumps=json_dumps)
        return ids

    return Call(steps, connection)


def add_dependencies(child: int | HasJobId, parents: DependsOn, connection: Any = None) -> Call[None]:
    """Let `child` wait for `parents` too, while it has not started.

    A parent that has ended counts as it ended: the child may be cancelled at once by its rule.

    Raises
    ------
    JobAlreadyStarted, JobNotFound, DependencyNotFound, CircularDependency
    """
    return one(statements.add_dependencies(the_one_job(child, "child"), normalise_depends_on(parents)), connection)


def remove_dependencies(child: int | HasJobId, parents: DependsOn, connection: Any = None) -> Call[int]:
    """Let `child` no longer wait for `parents`; how many of these edges there were. A blocked child is decided anew."""
    return one(statements.remove_dependencies(the_one_job(child, "child"), normalise_depends_on(parents)), connection)


def cancel_job_by_id(job_id: int, abort: bool = False, delete_job: bool = False, connection: Any = None) -> Call[bool]:
    """Cancel a job that has not started.

    Parameters
    ----------
    abort:
        Ask a running one to stop, too.
    delete_job:
        Delete it instead; its children are told that it was cancelled.

    Returns
    -------
    False when there was nothing to cancel.
    """
    return one(statements.cancel_job(job_id, abort, delete_job), connection)


def retry_job_by_id(
    job_id: int,
    retry_at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    lock: str | None = None,
    reset_dependents: bool = True,
    ignore_dependencies: bool = False,
    connection: Any = None,
) -> Call[None]:
    """Run a job again that has ended, or whose worker is lost.

    Parameters
    ----------
    retry_at:
        An aware datetime before which it doesn't start. Default: at once.
    priority, queue, lock:
        New values. Default: they stay as they are.
    reset_dependents:
        Its dependents that have not started, at all levels, wait for it again, and those that were cancelled by their
        rule are decided anew.
    ignore_dependencies:
        Run it whatever its parents do: a blocked one, too.

    Raises
    ------
    JobNotFound, AlreadyEnqueued;
    JobAlreadyStarted when it is running, and its worker lives;
    DependencyNotMet, naming the parents, when its own rule can't be met.
    """
    at = None if retry_at is None else check_aware(retry_at, "retry_at")
    return one(
        statements.retry_job(job_id, at, priority, queue, lock, reset_dependents, ignore_dependencies), connection
    )


def retry_job(
    job: Job,
    retry_at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    lock: str | None = None,
    reset_dependents: bool = True,
    ignore_dependencies: bool = False,
    connection: Any = None,
) -> Call[None]:
    return retry_job_by_id(job.id, retry_at, priority, queue, lock, reset_dependents, ignore_dependencies, connection)


retry_job.__doc__ = retry_job_by_id.__doc__


def finish_job(
    job: Job, status: Status | str, delete_job: bool = False, result: Any = None, error: str | None = None
) -> Call[None]:
    """End a running job by hand, as its worker would.

    Raises
    ------
    TransitionRefused when it has ended, or was fetched again, since `job` was read; LockNotAvailable while another
    transaction holds it.
    """
    outcome = Outcome(job_id=job.id, claim=job.claim, status=Status(status), result=result, error=error)
    delete = DeleteJobCondition.ALWAYS if delete_job else DeleteJobCondition.NEVER

    def steps(json_dumps: JsonDumps) -> Steps[None]:
        refusals = yield statements.finish_jobs([outcome], delete, json_dumps)
        if not refusals:
            return
        if refusals[0].reason == "busy":
            raise LockNotAvailable(f"job {job.id} is held by another transaction that is still open: try again later")
        raise TransitionRefused(f"job {job.id} is not running any more, or was fetched again since it was read")

    return Call(steps, None)
