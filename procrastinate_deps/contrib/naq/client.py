"""Enqueueing functions, and asking how their jobs stand."""

from __future__ import annotations

import atexit
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio.to_thread

from procrastinate_deps.contrib.naq.apps import current_app, refuse_while_importing
from procrastinate_deps.contrib.naq.paths import function_path
from procrastinate_deps.contrib.naq.payloads import HANDLING_NAMES, Handling, payload
from procrastinate_deps.dependencies import RunWhen, normalise_depends_on
from procrastinate_deps.exceptions import (
    AppNotOpen,
    DependencyNotFound,
    JobNotFound,
    SyncConnectorConfigurationError,
)
from procrastinate_deps.jobs import DEFAULT_QUEUE, JobSpec, Status
from procrastinate_deps.tasks import configure_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from procrastinate_deps.contrib.naq.apps import NaqApp
    from procrastinate_deps.jobs import Job

T = TypeVar("T")

_opening = threading.Lock()
_opened: list[NaqApp] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedJob:
    """A job that was enqueued: what `depends_on` takes.

    Attributes
    ----------
    job_id:
        The job's id, by which every other verb of this package knows it.
    function:
        The dotted path of its function.
    queue_name:
        Its queue.
    dependency_ids:
        The jobs that it waits for.
    """

    job_id: int
    function: str
    queue_name: str
    dependency_ids: tuple[int, ...]

    @property
    def id(self) -> int:
        return self.job_id


def enqueue_sync(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> EnqueuedJob:
    """Let a worker call `func(*args, **kwargs)`; the arguments are JSON.

    These keyword arguments are not the function's but say how the job is run:

    Parameters
    ----------
    queue_name:
        Default: "default".
    depends_on:
        Jobs to wait for: what enqueue returned, ids, or several of them. Default: none.
    run_after_failure:
        Run when all of these have ended, however they did. Default: False, only when all have succeeded.
    allow_partial_dependencies:
        Run when all of these have ended and at least one has succeeded. Default: False.
    max_retries:
        How often the job runs again after a failure. Default: 0.
    retry_delay:
        Seconds before a retry, or a list of them: before the first, the second, ..., the last one for all further
        ones. Default: 0.
    retry_strategy:
        "linear": the same delay each time. "exponential": twice as long each time. Default: "linear".
    retry_on, ignore_on:
        Exceptions, or their names: only these are retried; these are not. Default: all are retried.
    timeout:
        Seconds that a run may take. A coroutine is cancelled then; a function in a thread goes on to its end, and the
        run counts as failed. Default: no limit.

    Raises
    ------
    FunctionPathError:
        The function is one that no worker can find: a lambda, a method, one inside of another function.
    TypeError:
        The function can't be called with these arguments, or one of them is not JSON; something in depends_on is no
        job.
    DependencyNotFound:
        A job to wait for doesn't exist.
    """
    return _enqueue(current_app(), func, args, kwargs)


async def enqueue(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> EnqueuedJob:
    """`enqueue_sync` for async code."""
    request = _Request(current_app(), func, args, kwargs)
    try:
        (job_id,) = await request.deferrer.batch_defer_async(request.task_kwargs)
    except (AppNotOpen, SyncConnectorConfigurationError):
        # Opened for one event loop, it would be of no use in the next one.
        return await anyio.to_thread.run_sync(request.send)
    return request.job(job_id)


def get_job_status_sync(job_id: int | str | EnqueuedJob | Job) -> dict[str, Any]:
    """How a job stands. Raises JobNotFound.

    Returns
    -------
    `job_id`, `status` ("blocked", "todo", "doing", "succeeded", "failed", "cancelled" or "aborted"), `dependencies`
    (how the jobs stand that it waits for, by id), `function`, `queue_name`, `retry_count`, `result`, and `error`: the
    last traceback, or why it was cancelled.
    """
    the_id = _the_id(job_id)
    manager = current_app().job_manager
    return _status(_opened_for(current_app(), lambda: manager.get_job(the_id)), manager.get_parent_statuses(the_id))


async def get_job_status(job_id: int | str | EnqueuedJob | Job) -> dict[str, Any]:
    """`get_job_status_sync` for async code."""
    the_id = _the_id(job_id)
    manager = current_app().job_manager
    try:
        return _status(await manager.get_job_async(the_id), await manager.get_parent_statuses_async(the_id))
    except (AppNotOpen, SyncConnectorConfigurationError):
        return await anyio.to_thread.run_sync(get_job_status_sync, the_id)


def _status(job: Job, parents: Mapping[int, str]) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "status": job.status.value,
        "dependencies": dict(parents),
        "function": job.task_name,
        "queue_name": job.queue,
        # of a job that has not ended, attempts count the runs before this one, or before the next one
        "retry_count": max(job.attempts - (job.status in _RAN), 0),
        "result": job.result,
        "error": job.error or job.cancel_reason,
    }


_RAN = frozenset({Status.SUCCEEDED, Status.FAILED, Status.ABORTED})


class SyncClient:
    """Several `enqueue_sync` in a row: `with SyncClient() as client: client.enqueue(...)`.

    Parameters
    ----------
    app:
        Made by `naq_app`. Default: the one that `enqueue_sync` uses.
    """

    def __init__(self, app: NaqApp | None = None) -> None:
        self._app = app

    def enqueue(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> EnqueuedJob:
        """See `enqueue_sync`."""
        return _enqueue(self._app or current_app(), func, args, kwargs)

    def close(self) -> None:
        """Close the connections that this process opened for enqueueing; the next job opens them again."""
        _close(self._app or current_app())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def setup_logging(level: str = "INFO") -> None:
    """Log to stderr, from this level on."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class _Request:
    """A call of enqueue, checked and ready to be sent."""

    def __init__(self, app: NaqApp, func: Callable[..., Any], args: Iterable[Any], kwargs: dict[str, Any]) -> None:
        refuse_while_importing()
        self._app = app
        self._path = function_path(func)
        self._queue_name = kwargs.pop("queue_name", DEFAULT_QUEUE)
        if not isinstance(self._queue_name, str) or not self._queue_name:
            raise ValueError(
                f"queue_name={self._queue_name!r}: pass the name of a queue, or leave it out for the default"
            )
        self._parents = _job_ids(kwargs.pop("depends_on", None))
        rule = _rule(kwargs.pop("run_after_failure", False), kwargs.pop("allow_partial_dependencies", False))
        handling = Handling.of({name: kwargs.pop(name) for name in HANDLING_NAMES & kwargs.keys()})
        self.task_kwargs = payload(self._path, func, list(args), kwargs, handling)
        app.register(self._path, func)
        # not app.configure_task: who enqueues needs none of the worker's modules
        self.deferrer = configure_job(
            app, None, JobSpec(task_name=self._path, queue=self._queue_name), depends_on=self._parents, run_when=rule
        )

    def send(self) -> EnqueuedJob:
        (job_id,) = _opened_for(self._app, lambda: self.deferrer.batch_defer(self.task_kwargs))
        return self.job(job_id)

    def job(self, job_id: int) -> EnqueuedJob:
        return EnqueuedJob(
            job_id=job_id, function=self._path, queue_name=self._queue_name, dependency_ids=tuple(self._parents)
        )


def _enqueue(app: NaqApp, func: Callable[..., Any], args: Iterable[Any], kwargs: dict[str, Any]) -> EnqueuedJob:
    return _Request(app, func, args, kwargs).send()


def _rule(run_after_failure: bool, allow_partial: bool) -> RunWhen:
    # the first one allows whatever the second one does
    if run_after_failure:
        return RunWhen.ALL_FINISHED
    return RunWhen.ANY_SUCCEEDED if allow_partial else RunWhen.ALL_SUCCEEDED


def _job_ids(given: Any) -> list[int]:
    """As depends_on of `Task.configure`; ids as text too, since they are that in NAQ."""
    several = isinstance(given, (list, tuple, set, frozenset))
    ids = [
        int(each) if isinstance(each, str) and each.isdecimal() else each for each in (given if several else [given])
    ]
    for each in ids:
        if callable(each):
            raise TypeError(
                f"depends_on takes jobs; got the function {getattr(each, '__qualname__', each)}: "
                "pass what enqueue returned for it"
            )
    return normalise_depends_on(ids if several else ids[0])


def _the_id(given: Any) -> int:
    try:
        ids = _job_ids(given)
    except DependencyNotFound as error:  # no id of any job
        raise JobNotFound(str(error)) from None
    if len(ids) != 1:
        raise TypeError(f"job_id={given!r}: pass one job, by its id or as enqueue returned it")
    return ids[0]


def _opened_for(app: NaqApp, act: Callable[[], T]) -> T:
    """Do it; when the app is not open, open it first, until the process ends."""
    try:
        return act()
    except AppNotOpen:
        with _opening:
            if app not in _opened:
                app.open()
                _opened.append(app)
        return act()


@atexit.register
def _close_all() -> None:
    while _opened:
        _close(_opened[-1])


def _close(app: NaqApp) -> None:
    with _opening:
        if app in _opened:
            _opened.remove(app)
            app.close()
