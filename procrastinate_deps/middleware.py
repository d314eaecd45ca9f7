"""Code around tasks: around one task, around all tasks of a worker, or around the processing of each job.

A middleware is called as `middleware(call_next, context, worker)`, calls `call_next()` and returns what that returns::

    async def timed(call_next, context, worker):
        started = time.monotonic()
        try:
            return await call_next()
        finally:
            print(f"{context.task.name}: {time.monotonic() - started:.3f} s")
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from procrastinate_deps.exceptions import MiddlewareKindMismatch

if TYPE_CHECKING:
    from procrastinate_deps.context import JobContext
    from procrastinate_deps.tasks import Task
    from procrastinate_deps.worker import Worker

T = TypeVar("T")

SyncCallNext: TypeAlias = Callable[[], Any]
AsyncCallNext: TypeAlias = Callable[[], Awaitable[Any]]
SyncTaskMiddleware: TypeAlias = Callable[[SyncCallNext, "JobContext", "Worker"], Any]
AsyncTaskMiddleware: TypeAlias = Callable[[AsyncCallNext, "JobContext", "Worker"], Awaitable[Any]]
TaskMiddleware: TypeAlias = SyncTaskMiddleware | AsyncTaskMiddleware
WorkerMiddleware: TypeAlias = AsyncTaskMiddleware


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function, or an object that is called like one."""
    return any(inspect.iscoroutinefunction(each) for each in (function, type(function).__call__))


def check_task_middleware(
    middleware: Sequence[TaskMiddleware] | None, task: Task[..., Any, ...]
) -> tuple[TaskMiddleware, ...]:
    """`middleware` as a tuple; TypeError for what can't be called, MiddlewareKindMismatch for the wrong kind."""
    checked = callables("task_middleware", middleware)
    for each in checked:
        if is_async(each) is not task.is_async:
            raise MiddlewareKindMismatch(
                f"task_middleware: {_name(each)} is {_kind(is_async(each))}, task {task.name!r} is "
                f"{_kind(task.is_async)}; only a middleware of the task's own kind can be around it"
            )
    return checked


def check_worker_middleware(middleware: Sequence[WorkerMiddleware] | None) -> tuple[WorkerMiddleware, ...]:
    """`middleware` as a tuple; see Wrapping for what it raises."""
    checked = callables("worker_middleware", middleware)
    for each in checked:
        if not is_async(each):
            raise MiddlewareKindMismatch(
                f"worker_middleware: {_name(each)} is sync; what is around every job runs in the event loop: "
                "make it async"
            )
    return checked


def callables(option: str, middleware: Sequence[T] | None) -> tuple[T, ...]:
    """`middleware` as a tuple, none for None; raises TypeError for what can't be called."""
    if middleware is not None and not isinstance(middleware, (list, tuple)):
        raise TypeError(f"{option}={middleware!r}: pass a list of functions")
    for each in middleware or ():
        if not callable(each):
            raise TypeError(f"{option}: {each!r} can't be called")
    return tuple(middleware or ())


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A task with middleware around it.

    Attributes
    ----------
    call:
        Takes the context, then the job's arguments by keyword; of the task's kind. The task's function, inside of the
        middleware that is of its kind.
    around:
        Takes the context and a coroutine function that does all the rest; None: the worker has no middleware for jobs.
    """

    call: Callable[..., Any]
    around: Callable[[JobContext, AsyncCallNext], Awaitable[Any]] | None


class Wrapping:
    """The middleware of one worker, put around each task once, when its first job comes.

    Raises TypeError for what can't be called, MiddlewareKindMismatch for a worker_middleware that is sync.
    """

    def __init__(
        self,
        worker: Worker,
        task_middleware: Sequence[TaskMiddleware] | None,
        worker_middleware: Sequence[WorkerMiddleware] | None,
    ) -> None:
        self._worker = worker
        self._task_middleware = callables("task_middleware", task_middleware)
        around_jobs = check_worker_middleware(worker_middleware)
        self._around = self._composed(around_jobs) if around_jobs else None
        self._known: dict[Task[..., Any, ...], Wrapped | None] = {}

    def of(self, task: Task[..., Any, ...]) -> Wrapped | None:
        """None: there is no middleware around this task."""
        try:
            return self._known[task]
        except KeyError:
            wrapped = self._known[task] = self._wrap(task)
            return wrapped

    def _wrap(self, task: Task[..., Any, ...]) -> Wrapped | None:
        # The worker's are outside of the task's own. Those that are not of the task's kind are meant for other tasks.
        middleware = [each for each in self._task_middleware if is_async(each) is task.is_async]
        middleware += task.task_middleware
        if not middleware and self._around is None:
            return None
        composed = self._composed(middleware)

        def call(context: JobContext, /, **kwargs: Any) -> Any:
            args = (context,) if task.pass_context else ()
            return composed(context, functools.partial(task.func, *args, **kwargs))

        return Wrapped(call, self._around)

    def _composed(self, middleware: Sequence[Callable[..., Any]]) -> Callable[[JobContext, Callable[[], Any]], Any]:
        """One function of the context and of what is inside of all; the first middleware is the outermost."""
        worker = self._worker

        def call(context: JobContext, call_next: Callable[[], Any]) -> Any:
            for each in reversed(middleware):
                call_next = functools.partial(each, call_next, context, worker)
            return call_next()

        return call


def _name(middleware: Callable[..., Any]) -> str:
    return getattr(middleware, "__qualname__", None) or repr(middleware)


def _kind(is_async_: bool) -> str:
    return "async" if is_async_ else "sync"
