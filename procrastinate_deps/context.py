"""What a running task can ask about its job: `@app.task(pass_context=True)`."""

from __future__ import annotations

import dataclasses
import math
from contextvars import ContextVar
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

from procrastinate_deps.exceptions import ProcrastinateException
from procrastinate_deps.workflows import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procrastinate_deps.app import App
    from procrastinate_deps.dependencies import DependsOn, HasJobId
    from procrastinate_deps.jobs import Job
    from procrastinate_deps.tasks import Task


class AbortReason(Enum):
    """Why a running job is asked to stop."""

    USER_REQUEST = "user_request"  # someone called cancel_job_by_id(..., abort=True)
    SHUTDOWN = "shutdown"  # the worker stops, and its graceful timeout is over
    TIMEOUT = "timeout"  # the task ran longer than its timeout
    LOST = "lost"  # the worker couldn't renew its heartbeat: the job may run elsewhere by now


MAX_MESSAGE_LENGTH = 1000
"""What is longer of the message of a progress is cut off."""

running_job: ContextVar[Job | None] = ContextVar("running_job", default=None)
"""The job that runs here, in a worker's coroutine or thread."""


def _never() -> AbortReason | None:
    return None


def _nobody_listens(done: float, total: float | None, message: str | None) -> None:
    """Where no worker runs the job, as in a test that calls the task, there is no progress to be stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobContext:
    """The job that runs, and where.

    Attributes
    ----------
    app, job, task:
        The app whose worker runs it, the job as it was fetched, the task.
    worker_name:
        Name of the worker.
    worker_queues:
        The queues that the worker serves; None: all.
    start_timestamp:
        When this run started: seconds since the epoch.
    additional_context:
        What the worker was given as `additional_context`, a copy for each job.
    abort_reason:
        Call it to learn why the job is asked to stop; None: it isn't.
    report_progress:
        Where `set_progress` tells it; any thread may.
    """

    app: App
    job: Job
    task: Task[..., Any, ...]
    worker_name: str | None = None
    worker_queues: Iterable[str] | None = None
    start_timestamp: float
    additional_context: dict[str, Any] = dataclasses.field(default_factory=dict)
    abort_reason: Callable[[], AbortReason | None] = _never
    report_progress: Callable[[float, float | None, str | None], None] = _nobody_listens

    def should_abort(self) -> bool:
        """Whether the job is asked to stop.

        A task in a thread can't be interrupted: it asks from time to time, and raises `JobAborted`.
        """
        return self.abort_reason() is not None

    @property
    def attempt(self) -> int:
        """1 in the first run, 2 in the first retry, ...; `job.attempts` counts the runs before this one."""
        return self.job.attempts + 1

    @property
    def queues_display(self) -> str:
        return "all queues" if self.worker_queues is None else f"queues {', '.join(self.worker_queues)}"

    async def get_parent_statuses_async(self) -> dict[int, str]:
        """How the direct parents ended: `{parent_id: "succeeded" | "failed" | "cancelled" | "aborted"}`.

        Ordered by id, parents that were deleted since included; `{}` for a job without parents.
        """
        return await self.app.job_manager.get_parent_statuses_async(self.job.id)

    def get_parent_statuses(self) -> dict[int, str]:
        """The same as `get_parent_statuses_async`, for tasks that are plain functions."""
        return self.app.job_manager.get_parent_statuses(self.job.id)

    @overload
    async def get_parent_results_async(self, by: Literal["id"] = "id") -> dict[int, Any]: ...
    @overload
    async def get_parent_results_async(self, by: Literal["node"]) -> dict[str, Any]: ...
    async def get_parent_results_async(self, by: Literal["id", "node"] = "id") -> dict[int, Any] | dict[str, Any]:
        """What the direct parents returned, in the order of their ids: `{parent_id: value}`, by one query.

        None for a parent that did not succeed, was deleted, or returned None; a `NotStored` for one whose result could
        not be stored.

        Parameters
        ----------
        by:
            "node": `{name: value}`, of those parents that have a name in their workflow. Default: "id".
        """
        return await self.app.job_manager.get_parent_results_async(self.job.id, by)

    @overload
    def get_parent_results(self, by: Literal["id"] = "id") -> dict[int, Any]: ...
    @overload
    def get_parent_results(self, by: Literal["node"]) -> dict[str, Any]: ...
    def get_parent_results(self, by: Literal["id", "node"] = "id") -> dict[int, Any] | dict[str, Any]:
        """The same as `get_parent_results_async`, for tasks that are plain functions."""
        return self.app.job_manager.get_parent_results(self.job.id, by)

    @cached_property
    def workflow(self) -> Workflow:
        """The workflow that the job belongs to; ProcrastinateException for a job without one.

        What a job adds to it belongs to it: `context.workflow.add(...)`, or many jobs at once, and what already waits
        joined with them, by `context.workflow.grow()`.
        """
        if self.job.workflow_id is None:
            raise ProcrastinateException(
                f"job {self.job.id} ({self.job.task_name}) belongs to no workflow: context.workflow is for jobs that "
                "were added to one, by app.workflow(...) or configure(workflow=...)"
            )
        return Workflow(self.app, self.job.workflow_id)

    async def add_dependencies_async(self, child: int | HasJobId, parents: DependsOn) -> None:
        """Let `child`, a job that has not started, wait for `parents` too; see `JobManager.add_dependencies`."""
        await self.app.job_manager.add_dependencies_async(child, parents)

    def add_dependencies(self, child: int | HasJobId, parents: DependsOn) -> None:
        """The same as `add_dependencies_async`, for tasks that are plain functions."""
        self.app.job_manager.add_dependencies(child, parents)

    def set_progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the task has come, for all who read the job: `job.progress`, `job-status`.

        It may be called at any rate: the worker stores the last value, twice a second at most, beside its other work
        and for all its jobs together. The last one of a run is always stored, half a second after its end at the
        latest. That the database can't be reached is the worker's trouble, and raises nothing here.

        Parameters
        ----------
        done:
            In whatever the task counts, from 0. It may exceed a total that was guessed.
        total:
            How much there is to do. Default: nobody knows.
        message:
            What is being done; its first 1000 characters.

        Raises
        ------
        TypeError, ValueError for what is no number, less than 0 or not finite, and for a message that is no text.
        """
        for name, number in (("done", done), ("total", total)):
            if number is not None or name == "done":
                _check_amount(name, number)
        if message is not None and not isinstance(message, str):
            raise TypeError(f"message={message!r}: pass a text")
        self.report_progress(done, total, message and message[:MAX_MESSAGE_LENGTH])

    async def set_progress_async(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """The same as `set_progress`, which waits for nothing either, for those who expect to await it."""
        self.set_progress(done, total, message)

    def evolve(self, **changes: Any) -> JobContext:
        """A copy with `changes`."""
        return dataclasses.replace(self, **changes)


def _check_amount(name: str, number: object) -> None:
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        raise TypeError(f"{name}={number!r}: pass a number")
    try:
        is_amount = 0 <= float(number) < math.inf
    except OverflowError:
        # it may be too long to be shown, too
        raise ValueError(f"{name} is an int greater than any float: pass a number that a float can hold") from None
    if not is_amount:
        raise ValueError(f"{name}={number!r}: pass a number from 0")
