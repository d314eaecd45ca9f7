"""What a running task can ask about its job: `@app.task(pass_context=True)`."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from procrastinate_deps.app import App
    from procrastinate_deps.jobs import Job
    from procrastinate_deps.tasks import Task


class AbortReason(Enum):
    """Why a running job is asked to stop."""

    USER_REQUEST = "user_request"  # someone called cancel_job_by_id(..., abort=True)
    SHUTDOWN = "shutdown"  # the worker stops, and its graceful timeout is over
    TIMEOUT = "timeout"  # the task ran longer than its timeout
    LOST = "lost"  # the worker couldn't renew its heartbeat: the job may run elsewhere by now


def _never() -> AbortReason | None:
    return None


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
    """

    app: App
    job: Job
    task: Task[..., Any, ...]
    worker_name: str | None = None
    worker_queues: Iterable[str] | None = None
    start_timestamp: float
    additional_context: dict[str, Any] = dataclasses.field(default_factory=dict)
    abort_reason: Callable[[], AbortReason | None] = _never

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

    def evolve(self, **changes: Any) -> JobContext:
        """A copy with `changes`."""
        return dataclasses.replace(self, **changes)
