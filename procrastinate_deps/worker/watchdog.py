"""Notices that the event loop is blocked, and says by what, while it is."""

from __future__ import annotations

import logging
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps.worker import isolation, runner
from procrastinate_deps.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    from anyio.abc import TaskStatus

    from procrastinate_deps.jobs import Job
    from procrastinate_deps.worker.runner import Runner
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

# Of one task that blocks again and again, one warning in so many seconds.
REPEAT_AFTER_S = 300.0
# Of this many code places; a task is one.
MAX_REMEMBERED = 1000
# How many jobs in threads are named, where none runs on the loop.
MAX_NAMED = 5


@dataclass(slots=True)
class Warned:
    at: float
    since_then: int = 0


class Watchdog:
    """A thread looks whether the loop goes on, and reads off the stack what keeps it.

    A thread of its own, not one of anyio's: those are started by the loop. A job that doesn't block costs nothing.
    """

    def __init__(self, state: WorkerState, runner: Runner) -> None:
        self._state = state
        self._runner = runner
        self._threshold_s = state.options.blocked_loop_threshold
        self._ticked_at = 0.0
        self._warned: dict[str | CodeType | None, Warned] = {}

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        if not self._threshold_s:
            task_status.started()
            return
        interval_s = self._threshold_s / 2
        self._ticked_at = time.monotonic()
        over = threading.Event()
        watching = threading.Thread(
            target=self._watch,
            args=(threading.get_ident(), self._threshold_s, interval_s, over),
            name="watchdog",
            daemon=True,
        )
        watching.start()
        task_status.started()
        try:
            while True:
                self._ticked_at = time.monotonic()
                await anyio.sleep(interval_s)
        finally:
            over.set()

    def _watch(self, loop_thread: int, threshold_s: float, interval_s: float, over: threading.Event) -> None:
        said_for = -1.0
        looked_at, cpu_s = time.monotonic(), time.process_time()
        while not over.wait(interval_s):
            now, cpu_now_s = time.monotonic(), time.process_time()
            # Late itself: the whole process was stopped, unless something has computed all the time and let no other
            # thread run (a C function that keeps the interpreter's lock).
            slept_s = now - looked_at - interval_s
            stopped = slept_s > interval_s and cpu_now_s - cpu_s < slept_s / 2
            looked_at, cpu_s = now, cpu_now_s
            ticked_at = self._ticked_at
            if now - ticked_at < threshold_s or ticked_at == said_for or stopped:
                continue
            said_for = ticked_at
            self._say(loop_thread, now - ticked_at)

    def _say(self, loop_thread: int, blocked_s: float) -> None:
        frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 - the only way to another thread's stack
        if frame is None:
            return
        job = _job_on(frame)
        where = _places(frame)
        in_threads = [] if job is not None else self._runner.jobs_in_threads()
        key = job.task_name if job is not None else None if in_threads else frame.f_code
        repeated = self._repeated(key)
        if repeated is None:
            return
        logger.warning(
            "The event loop has been blocked for %.1f s by %s%s%s. Meanwhile nothing else of this worker goes on, not "
            "even its heartbeat: what takes long belongs into a task that is a plain function, or into "
            "anyio.to_thread.run_sync",
            blocked_s,
            _what(job, in_threads),
            "" if in_threads else f", at {where}",
            f" ({repeated} more time(s) since the last warning)" if repeated else "",
            extra=self._state.log_extra("loop_blocked", job, blocked_s=blocked_s, where=where),
        )

    def _repeated(self, key: str | CodeType | None) -> int | None:
        """How often it was not said since it was last said; None: nor is it now."""
        now = time.monotonic()
        warned = self._warned.get(key)
        if warned is not None and now - warned.at < REPEAT_AFTER_S:
            warned.since_then += 1
            return None
        if len(self._warned) >= MAX_REMEMBERED:
            self._warned.clear()
        self._warned[key] = Warned(now)
        return 0 if warned is None else warned.since_then


def _what(job: Job | None, in_threads: list[Job]) -> str:
    if job is not None:
        return f"job {job.id} (task {job.task_name})"
    if not in_threads:
        return "code that is not a job's"
    named = ", ".join(f"job {each.id} (task {each.task_name})" for each in in_threads[:MAX_NAMED])
    more = f" and {len(in_threads) - MAX_NAMED} more" if len(in_threads) > MAX_NAMED else ""
    return f"no job of its own; these run in threads and may keep it from running: {named}{more}"


# What is further in than these is the job's own code.
_RUNNING_IT = frozenset({isolation.__name__, runner.__name__})


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """From the innermost outwards."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _job_on(frame: FrameType) -> Job | None:
    """The job whose code is on this stack: one of the runner's own frames has its run."""
    for each in _frames(frame):
        if _module(each) in _RUNNING_IT:
            for value in each.f_locals.values():
                if isinstance(value, Run):
                    return value.job
    return None


def _places(frame: FrameType) -> str:
    """Where the code is: the innermost place of what the runner called, and the task's own, if that is another."""
    stack: list[FrameType] = []
    for each in _frames(frame):
        if _module(each) in _RUNNING_IT:
            break
        stack.append(each)
    innermost, task_s_own = _place(frame), _place(stack[-1] if stack else frame)
    return innermost if innermost == task_s_own else f"{task_s_own}, in {innermost}"


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{PurePath(code.co_filename).name}:{frame.f_lineno} ({code.co_qualname})"


def _module(frame: FrameType) -> Any:
    return frame.f_globals.get("__name__")
