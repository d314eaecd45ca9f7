"""One run of one job: what it is asked, and what can stop it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from procrastinate_deps.context import AbortReason
from procrastinate_deps.worker.isolation import RAISED_GENERATOR_EXIT

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from procrastinate_deps.jobs import Job
    from procrastinate_deps.tasks import Task


@dataclass(eq=False, slots=True)
class Run:
    """One run of one job."""

    job: Job
    task: Task[..., Any, ...] | None
    # What cancels it; None: it has not begun.
    scope: anyio.CancelScope | None = None
    # When the task's timeout is over, on the monotonic clock: a thread asks for itself whether it is.
    deadline: float = math.inf
    fetched_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    asked_to_stop: AbortReason | None = None
    in_thread: bool = False
    # It did not go through in one go: others ran meanwhile.
    waited: bool = False
    # It has left a cancel scope open, and may be cancelled by that.
    left_open: bool = False
    # Said by the thread itself: an abandoned one goes on.
    thread_alive: bool = False

    def call(self, function: Callable[[], Any]) -> Any:
        """What the thread runs."""
        self.thread_alive = True
        try:
            return function()
        except GeneratorExit as error:
            raise RuntimeError(RAISED_GENERATOR_EXIT) from error
        finally:
            self.thread_alive = False

    def abort_reason(self) -> AbortReason | None:
        if self.asked_to_stop is None and time.monotonic() >= self.deadline:
            self.asked_to_stop = AbortReason.TIMEOUT
        return self.asked_to_stop

    def abort(self, reason: AbortReason) -> None:
        """Ask the run to stop: a coroutine is cancelled, a thread can only be told."""
        # A job that may run elsewhere by now has lost whatever else was asked of it before.
        if self.asked_to_stop is None or reason is AbortReason.LOST:
            self.asked_to_stop = reason
        if not self.in_thread:
            self.cancel()

    def cancel(self) -> None:
        if self.scope is not None:
            self.scope.cancel()

    @property
    def is_cancelled(self) -> bool:
        return self.scope is not None and self.scope.cancel_called

    def set_deadline(self, at: float) -> None:
        """Of a run that has a scope to itself: when it is cancelled, on the event loop's clock."""
        if self.scope is not None:
            self.scope.deadline = at
