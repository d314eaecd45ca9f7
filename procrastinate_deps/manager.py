"""Every operation on jobs, each written once and run sync or async."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from procrastinate_deps import statements
from procrastinate_deps.dependencies import DependsOn, HasJobId, normalise_depends_on
from procrastinate_deps.exceptions import LockNotAvailable, SyncConnectorConfigurationError, TransitionRefused
from procrastinate_deps.jobs import (
    TERMINAL,
    DeleteJobCondition,
    Event,
    Job,
    JobSpec,
    Outcome,
    PeriodicTaskInfo,
    Pruned,
    Status,
    WorkerInfo,
)
from procrastinate_deps.statements import PAGE_SIZE, STALLED_AFTER_S, STATS_DIMENSIONS, STATS_STEP_S, Statement
from procrastinate_deps.times import check_aware
from procrastinate_deps.validation import the_one_job
from procrastinate_deps.verbs import bulk, checking, explaining, results, workflows
from procrastinate_deps.verbs.base import AsyncVerb, Call, Steps, SyncVerb, one

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from procrastinate_deps.durations import JobStats
    from procrastinate_deps.jsontext import JsonDumps

T = TypeVar("T")

PRUNE_BATCH = 1000
"""How many jobs one statement deletes: a larger one would hold its locks for too long."""


class SyncExecutor(Protocol):
    """What runs statements for code that is not async: a sync connector, or an app."""

    @property
    def json_dumps(self) -> JsonDumps: ...

    def execute(self, statement: Statement[T], connection: Any = None) -> T: ...


class AsyncExecutor(Protocol):
    """What runs statements for async code: an async connector, or an app."""

    @property
    def json_dumps(self) -> JsonDumps: ...

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T: ...


def _defer_jobs(jobs: Sequence[JobSpec], connection: Any = None) -> Call[list[int]]:
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


def _get_job(job_id: int, connection: Any = None) -> Call[Job]:
    """The job as it is now. Raises JobNotFound."""
    return one(statements.get_job(job_id), connection)


def _get_job_status(job_id: int, connection: Any = None) -> Call[Status]:
    """The job's status. Raises JobNotFound."""
    return one(statements.get_job_status(job_id), connection)


def _list_jobs(
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


def _list_queues(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Call[list[dict[str, Any]]]:
    """The queues with jobs that the filters fit, and paused ones: `name`, `jobs_count`, counts by status, `paused`."""
    return one(statements.list_queues(queue, task, status, lock))


def _list_tasks(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Call[list[dict[str, Any]]]:
    """The tasks with jobs that the filters fit: `name`, `jobs_count`, a count by status."""
    return one(statements.list_tasks(queue, task, status, lock))


def _list_locks(
    queue: str | None = None, task: str | None = None, status: Status | str | None = None, lock: str | None = None
) -> Call[list[dict[str, Any]]]:
    """The locks of jobs that the filters fit: `name`, `jobs_count`, a count by status."""
    return one(statements.list_locks(queue, task, status, lock))


def _get_lock_holder(lock: str) -> Call[tuple[int, Status] | None]:
    """Id and status of the job that has the lock: it is doing, or todo and next to start; None: nobody has it."""
    return one(statements.get_lock_holder(lock))


def _list_paused_queues() -> Call[list[str]]:
    """Names of the queues that nothing is fetched from, in order."""
    return one(statements.list_paused_queues())


def _list_workers() -> Call[list[WorkerInfo]]:
    """The workers that the database knows, by id, each with the number of jobs it is doing and the first 20 of them."""
    return one(statements.list_workers())


def _get_stats(
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


def _list_events(job_id: int) -> Call[list[Event]]:
    """What its row doesn't show of a job's life, oldest first: attempts before the last, rescues, acts by hand."""
    return one(statements.list_events(job_id))


def _get_parent_statuses(job_id: int, connection: Any = None) -> Call[dict[int, str]]:
    """How the direct parents stand, deleted ones included, by id: `{parent_id: "succeeded" | ...}`."""
    return one(statements.parent_statuses(job_id), connection)


def _get_parents(job_id: int, limit: int | None = PAGE_SIZE, after: int | None = None) -> Call[dict[int, Status]]:
    """The direct parents and their statuses, by id. `after` is the last id of the page before."""
    return one(statements.get_parents(job_id, limit, after))


def _get_children(job_id: int, limit: int | None = PAGE_SIZE, after: int | None = None) -> Call[dict[int, Status]]:
    """The direct children and their statuses, by id. `after` is the last id of the page before."""
    return one(statements.get_children(job_id, limit, after))


def _add_dependencies(child: int | HasJobId, parents: DependsOn, connection: Any = None) -> Call[None]:
    """Let `child` wait for `parents` too, while it has not started.

    A parent that has ended counts as it ended: the child may be cancelled at once by its rule.

    Raises
    ------
    JobAlreadyStarted, JobNotFound, DependencyNotFound, CircularDependency
    """
    return one(statements.add_dependencies(the_one_job(child, "child"), normalise_depends_on(parents)), connection)


def _remove_dependencies(child: int | HasJobId, parents: DependsOn, connection: Any = None) -> Call[int]:
    """Let `child` no longer wait for `parents`; how many of these edges there were. A blocked child is decided anew."""
    return one(statements.remove_dependencies(the_one_job(child, "child"), normalise_depends_on(parents)), connection)


def _cancel_job_by_id(job_id: int, abort: bool = False, delete_job: bool = False, connection: Any = None) -> Call[bool]:
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


def _retry_job_by_id(
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


def _retry_job(
    job: Job,
    retry_at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
    lock: str | None = None,
    reset_dependents: bool = True,
    ignore_dependencies: bool = False,
    connection: Any = None,
) -> Call[None]:
    return _retry_job_by_id(job.id, retry_at, priority, queue, lock, reset_dependents, ignore_dependencies, connection)


_retry_job.__doc__ = _retry_job_by_id.__doc__


def _finish_job(
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


def _get_stalled_jobs(
    seconds_since_heartbeat: float = STALLED_AFTER_S, queue: str | None = None, task_name: str | None = None
) -> Call[list[Job]]:
    """The running jobs whose worker gave no sign of life for so many seconds, or is not known any more."""
    return one(statements.stalled_jobs(seconds_since_heartbeat, queue, task_name))


def _delete_old_jobs(
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
    return _prune_jobs(nb_hours * 3600, [status for status, wanted in included.items() if wanted], queue)


def _prune_jobs(
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


def _count_prunable_jobs(
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


def _pause_queue(queue: str) -> Call[bool]:
    """Let no more of the queue's jobs start; those that run go on. False: it was paused already."""
    return one(statements.pause_queue(queue))


def _resume_queue(queue: str) -> Call[bool]:
    """Let the queue's jobs start again. False: it was not paused."""
    return one(statements.resume_queue(queue))


def _prune_stalled_workers(seconds_since_lost: float = STALLED_AFTER_S) -> Call[list[str]]:
    """Forget workers that were declared lost so many seconds ago and hold no jobs any more; their names."""
    return one(statements.prune_workers(seconds_since_lost))


def _list_periodic_tasks() -> Call[list[PeriodicTaskInfo]]:
    """The periodic tasks that workers have made known, each with the last period that was deferred and the next one."""
    return one(statements.list_periodic_tasks())


def _run_periodic_task(task_name: str, periodic_id: str = "") -> Call[int]:
    """Defer a job of a periodic task now, besides its schedule; the job's id. Its timestamp is the present time.

    Raises
    ------
    TaskNotFound when no worker has made such a task known; AlreadyEnqueued
    """
    return one(statements.run_periodic_task(task_name, periodic_id))


def _forget_periodic_task(task_name: str, periodic_id: str = "") -> Call[bool]:
    """List a periodic task no more that no worker has any longer; one that has it makes it known when it starts.

    Returns
    -------
    False when nothing is known of it.
    """
    return one(statements.forget_periodic_task(task_name, periodic_id))


def _check_connection() -> Call[bool]:
    """Whether the database answers and has the tables."""
    return one(statements.check_connection())


class JobManager:
    """Every operation on jobs. Where there are `name` and `name_async` they do the same.

    Methods that are coroutines in procrastinate without saying so in their name (get_stalled_jobs, retry_job,
    finish_job, delete_old_jobs) are coroutines here too; their sync twins are `name_sync`.

    Parameters
    ----------
    executor:
        An app or a connector. A connector of one kind runs the verbs of that kind only.
    """

    def __init__(self, executor: SyncExecutor | AsyncExecutor) -> None:
        self._executor = executor

    def run(self, call: Call[T]) -> T:
        if not hasattr(self._executor, "execute"):
            raise SyncConnectorConfigurationError(
                f"{type(self._executor).__name__} is async: call the verb that ends in _async, or use its sync_twin()"
            )
        executor = cast("SyncExecutor", self._executor)
        steps = call.steps(executor.json_dumps)
        try:
            statement = next(steps)
            while True:
                statement = steps.send(executor.execute(statement, call.connection))
        except StopIteration as end:
            return cast("T", end.value)

    async def run_async(self, call: Call[T]) -> T:
        if not hasattr(self._executor, "execute_async"):
            raise SyncConnectorConfigurationError(
                f"{type(self._executor).__name__} is sync: call the verb that is not async, or use an async connector"
            )
        executor = cast("AsyncExecutor", self._executor)
        steps = call.steps(executor.json_dumps)
        try:
            statement = next(steps)
            while True:
                statement = steps.send(await executor.execute_async(statement, call.connection))
        except StopIteration as end:
            return cast("T", end.value)

    defer_jobs = SyncVerb(_defer_jobs)
    defer_jobs_async = AsyncVerb(_defer_jobs)
    get_job = SyncVerb(_get_job)
    get_job_async = AsyncVerb(_get_job)
    get_job_status = SyncVerb(_get_job_status)
    get_job_status_async = AsyncVerb(_get_job_status)

    list_jobs = SyncVerb(_list_jobs)
    list_jobs_async = AsyncVerb(_list_jobs)
    list_queues = SyncVerb(_list_queues)
    list_queues_async = AsyncVerb(_list_queues)
    list_tasks = SyncVerb(_list_tasks)
    list_tasks_async = AsyncVerb(_list_tasks)
    list_locks = SyncVerb(_list_locks)
    list_locks_async = AsyncVerb(_list_locks)
    get_lock_holder = SyncVerb(_get_lock_holder)
    get_lock_holder_async = AsyncVerb(_get_lock_holder)
    list_paused_queues = SyncVerb(_list_paused_queues)
    list_paused_queues_async = AsyncVerb(_list_paused_queues)
    list_workers = SyncVerb(_list_workers)
    list_workers_async = AsyncVerb(_list_workers)
    get_stats = SyncVerb(_get_stats)
    get_stats_async = AsyncVerb(_get_stats)
    list_events = SyncVerb(_list_events)
    list_events_async = AsyncVerb(_list_events)

    explain = SyncVerb(explaining.explain)
    explain_async = AsyncVerb(explaining.explain)
    doomed_jobs = SyncVerb(explaining.doomed_jobs)
    doomed_jobs_async = AsyncVerb(explaining.doomed_jobs)
    check = SyncVerb(checking.check)
    check_async = AsyncVerb(checking.check)
    repair = SyncVerb(checking.repair)
    repair_async = AsyncVerb(checking.repair)

    get_parent_statuses = SyncVerb(_get_parent_statuses)
    get_parent_statuses_async = AsyncVerb(_get_parent_statuses)
    get_parent_results = SyncVerb(results.get_parent_results)
    get_parent_results_async = AsyncVerb(results.get_parent_results)
    get_parents = SyncVerb(_get_parents)
    get_parents_async = AsyncVerb(_get_parents)
    get_children = SyncVerb(_get_children)
    get_children_async = AsyncVerb(_get_children)
    add_dependencies = SyncVerb(_add_dependencies)
    add_dependencies_async = AsyncVerb(_add_dependencies)
    remove_dependencies = SyncVerb(_remove_dependencies)
    remove_dependencies_async = AsyncVerb(_remove_dependencies)

    cancel_job_by_id = SyncVerb(_cancel_job_by_id)
    cancel_job_by_id_async = AsyncVerb(_cancel_job_by_id)
    retry_job_by_id = SyncVerb(_retry_job_by_id)
    retry_job_by_id_async = AsyncVerb(_retry_job_by_id)
    retry_job = AsyncVerb(_retry_job)
    retry_job_sync = SyncVerb(_retry_job)
    finish_job = AsyncVerb(_finish_job)
    finish_job_sync = SyncVerb(_finish_job)
    get_stalled_jobs = AsyncVerb(_get_stalled_jobs)
    get_stalled_jobs_sync = SyncVerb(_get_stalled_jobs)
    delete_old_jobs = AsyncVerb(_delete_old_jobs)
    delete_old_jobs_sync = SyncVerb(_delete_old_jobs)
    prune_jobs = SyncVerb(_prune_jobs)
    prune_jobs_async = AsyncVerb(_prune_jobs)
    count_prunable_jobs = SyncVerb(_count_prunable_jobs)
    count_prunable_jobs_async = AsyncVerb(_count_prunable_jobs)

    cancel_jobs = SyncVerb(bulk.cancel_jobs)
    cancel_jobs_async = AsyncVerb(bulk.cancel_jobs)
    retry_jobs = SyncVerb(bulk.retry_jobs)
    retry_jobs_async = AsyncVerb(bulk.retry_jobs)
    delete_jobs = SyncVerb(bulk.delete_jobs)
    delete_jobs_async = AsyncVerb(bulk.delete_jobs)
    select_jobs = SyncVerb(bulk.select_jobs)
    select_jobs_async = AsyncVerb(bulk.select_jobs)
    last_job_id = SyncVerb(bulk.last_job_id)
    last_job_id_async = AsyncVerb(bulk.last_job_id)

    pause_queue = SyncVerb(_pause_queue)
    pause_queue_async = AsyncVerb(_pause_queue)
    resume_queue = SyncVerb(_resume_queue)
    resume_queue_async = AsyncVerb(_resume_queue)
    prune_stalled_workers = AsyncVerb(_prune_stalled_workers)
    prune_stalled_workers_sync = SyncVerb(_prune_stalled_workers)
    list_periodic_tasks = SyncVerb(_list_periodic_tasks)
    list_periodic_tasks_async = AsyncVerb(_list_periodic_tasks)
    run_periodic_task = SyncVerb(_run_periodic_task)
    run_periodic_task_async = AsyncVerb(_run_periodic_task)
    forget_periodic_task = SyncVerb(_forget_periodic_task)
    forget_periodic_task_async = AsyncVerb(_forget_periodic_task)

    defer_graph = SyncVerb(workflows.defer_graph)
    defer_graph_async = AsyncVerb(workflows.defer_graph)
    get_workflow = SyncVerb(workflows.get_workflow)
    get_workflow_async = AsyncVerb(workflows.get_workflow)
    list_workflows = SyncVerb(workflows.list_workflows)
    list_workflows_async = AsyncVerb(workflows.list_workflows)
    list_workflow_edges = SyncVerb(workflows.list_workflow_edges)
    list_workflow_edges_async = AsyncVerb(workflows.list_workflow_edges)
    cancel_workflow = SyncVerb(workflows.cancel_workflow)
    cancel_workflow_async = AsyncVerb(workflows.cancel_workflow)
    retry_workflow = SyncVerb(workflows.retry_workflow)
    retry_workflow_async = AsyncVerb(workflows.retry_workflow)
    delete_workflow = SyncVerb(workflows.delete_workflow)
    delete_workflow_async = AsyncVerb(workflows.delete_workflow)

    check_connection = SyncVerb(_check_connection)
    check_connection_async = AsyncVerb(_check_connection)
