"""A task, and the ways to make a job of it."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

from procrastinate_deps.dependencies import DependsOn, RunWhen, WorkflowPart, run_when_value, split_depends_on
from procrastinate_deps.exceptions import FunctionPathError, UnboundTaskError
from procrastinate_deps.jobs import DEFAULT_PRIORITY, DEFAULT_QUEUE, JobSpec
from procrastinate_deps.middleware import check_task_middleware, is_async
from procrastinate_deps.retry import RetryValue, get_retry_strategy
from procrastinate_deps.times import as_timedelta, check_aware, from_now
from procrastinate_deps.validation import check_lock, check_node, check_priority, check_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from procrastinate_deps.app import App
    from procrastinate_deps.blueprints import Blueprint
    from procrastinate_deps.middleware import TaskMiddleware
    from procrastinate_deps.workflows import Workflow

logger = logging.getLogger(__name__)

DEFAULT_RUN_WHEN = RunWhen.ALL_FINISHED

P = ParamSpec("P")  # what the function takes
D = ParamSpec("D")  # what defer() takes: the same without the context
R = TypeVar("R")


class TaskOptions(TypedDict, total=False):
    """What `@app.task` takes besides `pass_context`.

    name:
        Default: the dotted path of the function.
    aliases:
        Other names by which jobs may ask for the task: those that it had before, for instance.
    retry:
        True, a number of retries, or a strategy; see `RetryStrategy`. Default: no retry.
    queue, priority, lock, queueing_lock, run_when:
        Defaults of the task's jobs; see `JobOptions`.
    timeout:
        Seconds that a run may take. A coroutine is cancelled then; a function in a thread can't be, and has to ask
        `context.should_abort()`. The run counts as failed with a TimeoutError. Default: no limit.
    store_result:
        Whether what the function returns is kept, as JSON, with the job. Default: True.
    task_middleware:
        Functions around the task, the first one outermost: sync ones for a function, async ones for a coroutine
        function; see `procrastinate_deps.middleware`. Default: none.
    """

    name: str | None
    aliases: Sequence[str] | None
    retry: RetryValue
    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    run_when: RunWhen | str
    timeout: float | None
    store_result: bool
    task_middleware: Sequence[TaskMiddleware] | None


class JobOptions(TypedDict, total=False):
    """What `configure` takes besides `task_kwargs`; None means the task's own value, or none.

    lock:
        No two jobs with the same lock run at the same time; they start in order of priority, then of id. A text of up
        to 2000 bytes.
    queueing_lock:
        No two jobs with the same queueing lock wait at the same time: the second defer raises `AlreadyEnqueued`.
        A text of up to 2000 bytes.
    schedule_at:
        The job doesn't start before this moment: an aware datetime.
    schedule_in:
        The same as a distance from the call of `defer`: a timedelta, or a dict of its arguments. Not together
        with schedule_at.
    queue:
        Queue of the job; its name has 1 to 255 characters.
    priority:
        Higher starts earlier: a whole number of 32 bits.
    connection:
        A psycopg or asyncpg connection of your own: the job becomes part of its transaction.
    depends_on:
        What must be terminal before this one starts: a job's id, a `Job`, a workflow's node, a whole workflow (every
        job of it, also those added while it runs), or several of these. None and []: no parents.
    run_when:
        Which ends of the parents let the job run: "all_finished", "all_succeeded", "any_succeeded", "any_failed",
        "all_failed" or "none_failed".
    workflow:
        The workflow that the job belongs to, or its id. Not needed for what is added by `workflow.add`.
    node:
        Name of the job within its workflow, where no other has it; at most 255 characters.
    """

    lock: str | None
    queueing_lock: str | None
    schedule_at: datetime | None
    schedule_in: timedelta | Mapping[str, Any] | None
    queue: str | None
    priority: int | None
    connection: Any
    depends_on: DependsOn
    run_when: RunWhen | str | None
    workflow: Workflow | int | None
    node: str | None


@dataclass(frozen=True, kw_only=True)
class JobDeferrer(Generic[D]):
    """A job all set but for its arguments; `defer` makes one each time that it is called."""

    app: App
    spec: JobSpec
    task: Task[..., Any, ...] | None = None
    schedule_in: timedelta | None = None
    connection: Any = None
    parts: Sequence[WorkflowPart] = ()
    workflow: Workflow | int | None = None

    def defer(self, *args: D.args, **kwargs: D.kwargs) -> int:
        """Defer one job with these arguments.

        Returns
        -------
        The job's id.

        Raises
        ------
        AlreadyEnqueued:
            A job with the same queueing_lock waits already.
        DependencyNotFound:
            A parent doesn't exist, was deleted, or hasn't been committed.
        TypeError:
            An argument is not JSON.
        """
        return self._send([self.job_spec(*args, **kwargs)])[0]

    async def defer_async(self, *args: D.args, **kwargs: D.kwargs) -> int:
        """`defer` for asynchronous code."""
        return (await self._send_async([self.job_spec(*args, **kwargs)]))[0]

    def batch_defer(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """Defer one job for each dict of arguments, in one statement: all of them, or none.

        Returns
        -------
        The ids of the jobs, in the order of the arguments.
        """
        return self._send([self._with_arguments(each) for each in task_kwargs])

    async def batch_defer_async(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """`batch_defer` for asynchronous code."""
        return await self._send_async([self._with_arguments(each) for each in task_kwargs])

    def job_spec(self, *args: D.args, **kwargs: D.kwargs) -> JobSpec:
        """What would be deferred with these arguments."""
        return self._with_arguments(self._by_name(args, kwargs))

    def arguments(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """All arguments of a job by their names, those given to `configure` included."""
        return {**self.spec.task_kwargs, **self._by_name(args, kwargs)}

    def _by_name(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Mapping[str, object]:
        # A job's arguments are a JSON object, but defer() is typed as the function, which may take them by position.
        if not args:
            return kwargs
        if self.task is None:
            raise TypeError(f"{self.spec.task_name}: its parameters are unknown here; pass its arguments by keyword")
        return self.task.arguments_by_name(args, kwargs)

    def _with_arguments(self, task_kwargs: Mapping[str, object]) -> JobSpec:
        scheduled_at = self.spec.scheduled_at
        if self.schedule_in is not None:
            scheduled_at = from_now(self.schedule_in, "schedule_in")
        spec = replace(
            self.spec,
            task_kwargs={**self.spec.task_kwargs, **task_kwargs},
            scheduled_at=scheduled_at,
            schedule_in=self.schedule_in,
        )
        if not self.parts and self.workflow is None and spec.node is None:
            return spec
        return self._within_workflow(spec)

    def _within_workflow(self, spec: JobSpec) -> JobSpec:
        if self.workflow is None and spec.node is not None:
            raise ValueError(
                f"task {spec.task_name!r}: node={spec.node!r} is a name within a workflow: give workflow=, too, or add "
                "the job by workflow.add(...)"
            )
        jobs = list(spec.depends_on)
        workflows = list(spec.depends_on_workflows)
        for part in self.parts:
            its_jobs, its_workflows = part.sent_ids()
            jobs += its_jobs
            workflows += its_workflows
        return replace(
            spec,
            depends_on=list(dict.fromkeys(jobs)),
            depends_on_workflows=list(dict.fromkeys(workflows)),
            workflow_id=self.workflow if self.workflow is None or isinstance(self.workflow, int) else self.workflow.id,
        )

    def _send(self, specs: list[JobSpec]) -> list[int]:
        if not specs:
            return []
        ids = self.app.job_manager.defer_jobs(specs, connection=self.connection)
        _log_deferred(specs, ids)
        return ids

    async def _send_async(self, specs: list[JobSpec]) -> list[int]:
        if not specs:
            return []
        ids = await self.app.job_manager.defer_jobs_async(specs, connection=self.connection)
        _log_deferred(specs, ids)
        return ids


def _log_deferred(specs: Sequence[JobSpec], ids: Sequence[int]) -> None:
    if logger.isEnabledFor(logging.INFO):
        first = specs[0]
        logger.info(
            "Deferred job %d: %s" if len(ids) == 1 else "Deferred %d jobs: %s",
            ids[0] if len(ids) == 1 else len(ids),
            first.task_name,
            extra={"action": "jobs_deferred", "task_name": first.task_name, "queue": first.queue, "job_ids": list(ids)},
        )
    # Arguments may be private: they are logged only for those who ask for everything.
    if logger.isEnabledFor(logging.DEBUG):
        for job_id, spec in zip(ids, specs, strict=True):
            logger.debug(
                "Job %d has the arguments %r",
                job_id,
                spec.task_kwargs,
                extra={"action": "job_arguments", "job_id": job_id, "task_kwargs": spec.task_kwargs},
            )


def configure_job(
    app: App,
    task: Task[..., Any, ...] | None,
    spec: JobSpec,
    *,
    task_kwargs: Mapping[str, Any] | None = None,
    lock: str | None = None,
    queueing_lock: str | None = None,
    schedule_at: datetime | None = None,
    schedule_in: timedelta | Mapping[str, Any] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    connection: Any = None,
    depends_on: DependsOn = None,
    run_when: RunWhen | str | None = None,
    workflow: Workflow | int | None = None,
    node: str | None = None,
) -> JobDeferrer[...]:
    """A deferrer of `spec` with what was given in the place of what it had."""
    if schedule_at is not None and schedule_in is not None:
        raise ValueError(f"schedule_at={schedule_at!r} and schedule_in={schedule_in!r}: give only one of them")
    if node is not None:
        check_node(node)
    if workflow is not None and not _is_workflow(workflow):
        raise TypeError(f"workflow={workflow!r}: pass a workflow, or its id")
    if queue is not None:
        check_queue(queue)
    if priority is not None:
        check_priority(priority)
    if lock is not None:
        check_lock(lock, "lock")
    if queueing_lock is not None:
        check_lock(queueing_lock, "queueing_lock")
    jobs, parts = split_depends_on(depends_on)
    return JobDeferrer(
        app=app,
        task=task,
        schedule_in=None if schedule_in is None else as_timedelta(schedule_in, "schedule_in"),
        connection=connection,
        parts=parts,
        workflow=workflow,
        # not by replace(): that takes three times as long, and a large graph calls this for each of its jobs
        spec=JobSpec(
            task_name=spec.task_name,
            task_kwargs=dict(task_kwargs) if task_kwargs else {},
            lock=spec.lock if lock is None else lock,
            queueing_lock=spec.queueing_lock if queueing_lock is None else queueing_lock,
            scheduled_at=None if schedule_at is None else check_aware(schedule_at, "schedule_at"),
            queue=spec.queue if queue is None else queue,
            priority=spec.priority if priority is None else priority,
            depends_on=jobs,
            run_when=spec.run_when if run_when is None else run_when_value(run_when),
            node=node,
        ),
    )


def _is_workflow(value: object) -> bool:
    if isinstance(value, WorkflowPart):
        return hasattr(type(value), "id")  # it may not have been sent yet
    return isinstance(value, int) and not isinstance(value, bool)


class Task(Generic[P, R, D]):
    """A function that can be run later, by a worker. Made by `@app.task`; calling it calls the function."""

    __name__: str  # the function's; functools.update_wrapper sets it

    def __init__(
        self,
        func: Callable[P, R],
        *,
        blueprint: Blueprint,
        name: str | None = None,
        aliases: Sequence[str] | None = None,
        retry: RetryValue = False,
        pass_context: bool = False,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
        lock: str | None = None,
        queueing_lock: str | None = None,
        run_when: RunWhen | str = DEFAULT_RUN_WHEN,
        timeout: float | None = None,
        store_result: bool = True,
        task_middleware: Sequence[TaskMiddleware] | None = None,
    ) -> None:
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout={timeout!r}: pass a number of seconds above 0, or None for no limit")
        self.func = func
        self.blueprint = blueprint
        self.name = name or full_path(func)
        self.aliases = list(aliases or ())
        self.retry_strategy = get_retry_strategy(retry)
        self.pass_context = pass_context
        self.queue = check_queue(queue)
        self.priority = check_priority(priority)
        self.lock = None if lock is None else check_lock(lock, "lock")
        self.queueing_lock = None if queueing_lock is None else check_lock(queueing_lock, "queueing_lock")
        self.run_when = RunWhen(run_when_value(run_when))
        self.timeout = timeout
        self.store_result = store_result
        self.task_middleware = check_task_middleware(task_middleware, self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.func(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def full_path(self) -> str:
        return full_path(self.func)

    @property
    def app(self) -> App:
        """The app that the task belongs to; `UnboundTaskError` while its blueprint is part of none."""
        app = self.blueprint.bound_app
        if app is None:
            raise UnboundTaskError(
                f"task {self.name!r} belongs to a blueprint, and was not there when that was added to an app; "
                "call app.add_tasks_from(blueprint, namespace=...) first, after all its tasks were declared"
            )
        return app

    @cached_property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function; others run in a thread."""
        return is_async(self.func)

    def add_namespace(self, namespace: str) -> None:
        self.name = add_namespace(self.name, namespace)
        self.aliases = [add_namespace(alias, namespace) for alias in self.aliases]

    def defer(self, *args: D.args, **kwargs: D.kwargs) -> int:
        """Defer a job with these arguments and the task's own options; see `JobDeferrer.defer`."""
        return self.deferrer().defer(*args, **kwargs)

    async def defer_async(self, *args: D.args, **kwargs: D.kwargs) -> int:
        """`defer` for asynchronous code."""
        return await self.deferrer().defer_async(*args, **kwargs)

    def batch_defer(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """Defer one job for each dict of arguments: all, or none; see `JobDeferrer.batch_defer`."""
        return self.deferrer().batch_defer(*task_kwargs)

    async def batch_defer_async(self, *task_kwargs: Mapping[str, Any]) -> list[int]:
        """`batch_defer` for asynchronous code."""
        return await self.deferrer().batch_defer_async(*task_kwargs)

    @overload
    def configure(self, *, task_kwargs: None = None, **options: Unpack[JobOptions]) -> JobDeferrer[D]: ...

    @overload
    def configure(self, *, task_kwargs: Mapping[str, Any], **options: Unpack[JobOptions]) -> JobDeferrer[...]: ...

    def configure(
        self, *, task_kwargs: Mapping[str, Any] | None = None, **options: Unpack[JobOptions]
    ) -> JobDeferrer[Any]:
        """Set how and when a job of this task shall run.

        Parameters
        ----------
        task_kwargs:
            Arguments of the job; those given to `defer` are added, and win.
        options:
            See `JobOptions`.

        Returns
        -------
        A `JobDeferrer`; it can be kept, and used any number of times.

        Raises
        ------
        ValueError:
            Both schedule_at and schedule_in; a naive datetime, or one outside of the years 1 to 9999 in UTC; an unknown
            run_when.
        TypeError:
            Something in depends_on that is no job and no part of a workflow.
        """
        return configure_job(self.app, self, self.default_spec(), task_kwargs=task_kwargs, **options)

    def arguments_by_name(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """`args` and `kwargs` all by keyword, as the function names them."""
        parameters = list(inspect.signature(self.func).parameters.values())
        if self.pass_context:
            parameters = parameters[1:]
        names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
        if len(args) > len(names):
            raise TypeError(
                f"{self.name}: got {len(args)} arguments by position; those that have a name to pass them by are: "
                f"{', '.join(names) or 'none'}"
            )
        by_name = dict(zip(names, args, strict=False))
        if twice := sorted(by_name.keys() & kwargs.keys()):
            raise TypeError(f"{self.name}: given both by position and by keyword: {', '.join(twice)}")
        return {**by_name, **kwargs}

    def deferrer(self) -> JobDeferrer[D]:
        """What makes jobs of it with its own options; the same as `configure()`."""
        return JobDeferrer(app=self.app, task=self, spec=self.default_spec())

    def default_spec(self) -> JobSpec:
        return JobSpec(
            task_name=self.name,
            queue=self.queue,
            priority=self.priority,
            lock=self.lock,
            queueing_lock=self.queueing_lock,
            run_when=self.run_when,
        )


def full_path(func: Callable[..., Any]) -> str:
    """The dotted path of a function, as procrastinate names tasks by it."""
    try:
        return f"{func.__module__}.{func.__name__}"
    except AttributeError:
        raise FunctionPathError(f"{func!r} has no name of its own; give its task one by name=") from None


def add_namespace(name: str, namespace: str) -> str:
    return f"{namespace}:{name}"
