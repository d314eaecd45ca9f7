"""Every operation on jobs, each written once and run sync or async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from procrastinate_deps.exceptions import SyncConnectorConfigurationError
from procrastinate_deps.verbs import acting, bulk, checking, explaining, listing, operating, pruning, results, workflows
from procrastinate_deps.verbs.base import AsyncVerb, Call, SyncVerb

if TYPE_CHECKING:
    from procrastinate_deps.jsontext import JsonDumps
    from procrastinate_deps.statements import Statement

T = TypeVar("T")


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

    defer_jobs = SyncVerb(acting.defer_jobs)
    defer_jobs_async = AsyncVerb(acting.defer_jobs)
    get_job = SyncVerb(listing.get_job)
    get_job_async = AsyncVerb(listing.get_job)
    get_job_status = SyncVerb(listing.get_job_status)
    get_job_status_async = AsyncVerb(listing.get_job_status)

    list_jobs = SyncVerb(listing.list_jobs)
    list_jobs_async = AsyncVerb(listing.list_jobs)
    list_queues = SyncVerb(listing.list_queues)
    list_queues_async = AsyncVerb(listing.list_queues)
    list_tasks = SyncVerb(listing.list_tasks)
    list_tasks_async = AsyncVerb(listing.list_tasks)
    list_locks = SyncVerb(listing.list_locks)
    list_locks_async = AsyncVerb(listing.list_locks)
    get_lock_holder = SyncVerb(listing.get_lock_holder)
    get_lock_holder_async = AsyncVerb(listing.get_lock_holder)
    list_paused_queues = SyncVerb(listing.list_paused_queues)
    list_paused_queues_async = AsyncVerb(listing.list_paused_queues)
    list_workers = SyncVerb(listing.list_workers)
    list_workers_async = AsyncVerb(listing.list_workers)
    get_stats = SyncVerb(listing.get_stats)
    get_stats_async = AsyncVerb(listing.get_stats)
    list_events = SyncVerb(listing.list_events)
    list_events_async = AsyncVerb(listing.list_events)

    explain = SyncVerb(explaining.explain)
    explain_async = AsyncVerb(explaining.explain)
    doomed_jobs = SyncVerb(explaining.doomed_jobs)
    doomed_jobs_async = AsyncVerb(explaining.doomed_jobs)
    check = SyncVerb(checking.check)
    check_async = AsyncVerb(checking.check)
    repair = SyncVerb(checking.repair)
    repair_async = AsyncVerb(checking.repair)

    get_parent_statuses = SyncVerb(listing.get_parent_statuses)
    get_parent_statuses_async = AsyncVerb(listing.get_parent_statuses)
    get_parent_results = SyncVerb(results.get_parent_results)
    get_parent_results_async = AsyncVerb(results.get_parent_results)
    get_parents = SyncVerb(listing.get_parents)
    get_parents_async = AsyncVerb(listing.get_parents)
    get_children = SyncVerb(listing.get_children)
    get_children_async = AsyncVerb(listing.get_children)
    add_dependencies = SyncVerb(acting.add_dependencies)
    add_dependencies_async = AsyncVerb(acting.add_dependencies)
    remove_dependencies = SyncVerb(acting.remove_dependencies)
    remove_dependencies_async = AsyncVerb(acting.remove_dependencies)

    cancel_job_by_id = SyncVerb(acting.cancel_job_by_id)
    cancel_job_by_id_async = AsyncVerb(acting.cancel_job_by_id)
    retry_job_by_id = SyncVerb(acting.retry_job_by_id)
    retry_job_by_id_async = AsyncVerb(acting.retry_job_by_id)
    retry_job = AsyncVerb(acting.retry_job)
    retry_job_sync = SyncVerb(acting.retry_job)
    finish_job = AsyncVerb(acting.finish_job)
    finish_job_sync = SyncVerb(acting.finish_job)
    get_stalled_jobs = AsyncVerb(listing.get_stalled_jobs)
    get_stalled_jobs_sync = SyncVerb(listing.get_stalled_jobs)
    delete_old_jobs = AsyncVerb(pruning.delete_old_jobs)
    delete_old_jobs_sync = SyncVerb(pruning.delete_old_jobs)
    prune_jobs = SyncVerb(pruning.prune_jobs)
    prune_jobs_async = AsyncVerb(pruning.prune_jobs)
    count_prunable_jobs = SyncVerb(pruning.count_prunable_jobs)
    count_prunable_jobs_async = AsyncVerb(pruning.count_prunable_jobs)

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

    pause_queue = SyncVerb(operating.pause_queue)
    pause_queue_async = AsyncVerb(operating.pause_queue)
    resume_queue = SyncVerb(operating.resume_queue)
    resume_queue_async = AsyncVerb(operating.resume_queue)
    prune_stalled_workers = AsyncVerb(operating.prune_stalled_workers)
    prune_stalled_workers_sync = SyncVerb(operating.prune_stalled_workers)
    list_periodic_tasks = SyncVerb(operating.list_periodic_tasks)
    list_periodic_tasks_async = AsyncVerb(operating.list_periodic_tasks)
    run_periodic_task = SyncVerb(operating.run_periodic_task)
    run_periodic_task_async = AsyncVerb(operating.run_periodic_task)
    forget_periodic_task = SyncVerb(operating.forget_periodic_task)
    forget_periodic_task_async = AsyncVerb(operating.forget_periodic_task)

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

    check_connection = SyncVerb(operating.check_connection)
    check_connection_async = AsyncVerb(operating.check_connection)
