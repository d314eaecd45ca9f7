"""Runs the jobs: coroutine functions in the event loop, plain functions in threads."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps.context import AbortReason, JobContext
from procrastinate_deps.exceptions import TaskNotFound
from procrastinate_deps.jobs import Status
from procrastinate_deps.worker.outcomes import Cancelled, End, Raised, Returned, Unrunnable, given_back, outcome_of
from procrastinate_deps.worker.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from anyio.abc import TaskGroup, TaskStatus

    from procrastinate_deps.jobs import Job, Outcome
    from procrastinate_deps.tasks import Task
    from procrastinate_deps.worker.finisher import Finisher
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Run:
    """One run of one job."""

    job: Job
    task: Task[..., Any, ...] | None
    scope: anyio.CancelScope
    # When the task's timeout is over, on the monotonic clock: a thread asks for itself whether it is.
    deadline: float = math.inf
    started_at: float = field(default_factory=time.monotonic)
    asked_to_stop: AbortReason | None = None
    in_thread: bool = False
    # Said by the thread itself: an abandoned one goes on.
    thread_alive: bool = False

    def call(self, function: Callable[[], Any]) -> Any:
        """What the thread runs."""
        self.thread_alive = True
        try:
            return function()
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
            self.scope.cancel()


class Runner:
    def __init__(self, state: WorkerState, finisher: Finisher) -> None:
        self._state = state
        self._finisher = finisher
        self._runs: set[Run] = set()
        # Threads are never waited for: there are as many as jobs may run.
        self._threads = anyio.CapacityLimiter(state.options.concurrency)
        self._group: TaskGroup | None = None
        self._closed = anyio.Event()
        self._ended = Wakeup()
        self._abandoned: list[Run] = []
        self._expecting = False
        self._aborted_early: set[int] = set()

    @property
    def running(self) -> int:
        return len(self._runs)

    @property
    def free(self) -> int:
        return self._state.options.concurrency - len(self._runs)

    def jobs(self) -> list[Job]:
        return [run.job for run in self._runs]

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as self._group:
            task_status.started()
            await self._closed.wait()

    def close(self) -> None:
        """Let `run` return once no job runs."""
        self._closed.set()

    @contextlib.contextmanager
    def expecting_jobs(self) -> Iterator[None]:
        """While a fetch is under way: an abort of a job whose row is still on its way to us is kept for it."""
        self._expecting = True
        try:
            yield
        finally:
            self._expecting = False
            self._aborted_early.clear()

    def start(self, jobs: Iterable[Job]) -> None:
        if self._group is None:
            raise RuntimeError("a job was fetched before the runner was ready")
        for job in jobs:
            task = self._state.app.tasks.get(job.task_name)
            run = Run(job, task, anyio.CancelScope())
            self._runs.add(run)
            if job.abort_requested or job.id in self._aborted_early:
                run.abort(AbortReason.USER_REQUEST)
            self._group.start_soon(self._run, run, name=f"job {job.id}")

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Put back jobs that were fetched when the worker had begun to stop, or to re-register."""
        for job in jobs:
            self._finisher.add(given_back(job))
            logger.info(
                "Job %d (%s) is put back, not started", job.id, job.task_name, extra=self._log("job_put_back", job)
            )

    def abort(self, job_ids: Iterable[int]) -> None:
        """Someone asked for these jobs to be aborted."""
        wanted = set(job_ids)
        for run in self._runs:
            if run.job.id in wanted:
                wanted.discard(run.job.id)
                if run.asked_to_stop is None:
                    logger.info(
                        "Job %d (%s) is asked to abort",
                        run.job.id,
                        run.job.task_name,
                        extra=self._log("job_abort_requested", run.job),
                    )
                    run.abort(AbortReason.USER_REQUEST)
        if self._expecting:
            self._aborted_early |= wanted

    def abort_all(self, reason: AbortReason) -> None:
        for run in self._runs:
            run.abort(reason)

    def abandon_all(self) -> None:
        """End every run now; a thread goes on by itself, but nobody waits for it."""
        self._abandoned = list(self._runs)
        for run in self._runs:
            run.abort(AbortReason.SHUTDOWN)
            run.scope.cancel()

    @property
    def goes_on(self) -> bool:
        """Whether something runs that could not be ended: a thread, or a coroutine that ignores its cancellation."""
        return bool(self._runs) or any(run.thread_alive for run in self._abandoned)

    async def idle(self) -> None:
        """Wait until no job runs."""
        while self._runs:
            self._ended.clear()
            await self._ended.wait()

    async def _run(self, run: Run) -> None:
        job = run.job
        logger.info("Job %d (%s) starts", job.id, job.task_name, extra=self._log("start_job", job))
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "Job %d has the arguments %r",
                job.id,
                job.task_kwargs,
                extra=self._log("job_arguments", job, task_kwargs=job.task_kwargs),
            )
        end = await self._execute(run)
        if run.scope.cancel_called and run.asked_to_stop is None:
            # Only its deadline cancels a scope that nobody has; the loop's timer may be a tick ahead of the clock.
            run.asked_to_stop = AbortReason.TIMEOUT
        reason = run.abort_reason()
        if reason is AbortReason.LOST:
            logger.warning(
                "Job %d (%s) was lost with the worker's registration: how it ended is not recorded",
                job.id,
                job.task_name,
                extra=self._log("job_lost", job),
            )
        else:
            outcome = outcome_of(job, run.task, end, reason, self._state.connector.json_dumps)
            self._finisher.add(outcome)
            self._log_end(run, end, outcome)
        self._runs.discard(run)
        self._ended.set()
        if self._state.more_to_fetch or reason is AbortReason.LOST:
            self._state.fetch.set()

    async def _execute(self, run: Run) -> End:
        job, task = run.job, run.task
        if task is None:
            return Unrunnable(
                TaskNotFound(
                    f"task {job.task_name!r} is not known to this worker's app; "
                    "list the module that defines it in App(import_paths=[...])"
                )
            )
        if run.asked_to_stop is not None:
            return Cancelled()
        args = (self._context(run, task),) if task.pass_context else ()
        try:
            with run.scope:
                if task.timeout is not None:
                    run.deadline = time.monotonic() + task.timeout
                    run.scope.deadline = anyio.current_time() + task.timeout
                if task.is_async:
                    return Returned(await task.func(*args, **job.task_kwargs))
                return Returned(await self._in_thread(run, functools.partial(task.func, *args, **job.task_kwargs)))
        except anyio.get_cancelled_exc_class() as exception:
            # Not by this run's scope. Either the whole worker is being torn down, or the task cancelled itself.
            if anyio.current_effective_deadline() == -math.inf:
                raise
            return Raised(exception)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exception:  # noqa: BLE001 - SystemExit too: a task that exits has failed, not the worker
            if isinstance(exception, TypeError) and _misfit(task, args, job):
                return Unrunnable(exception)
            # A coroutine that turned its cancellation into an error of its own was stopped by us all the same.
            stopped_by_shutdown = run.abort_reason() is AbortReason.SHUTDOWN and run.scope.cancel_called
            return Cancelled() if stopped_by_shutdown else Raised(exception)
        return Cancelled()

    async def _in_thread(self, run: Run, call: functools.partial[Any]) -> Any:
        if run.task is not None and run.task.timeout is not None:
            # The thread can't be interrupted: it reads the deadline through its context, and keeps its slot meanwhile.
            run.scope.deadline = math.inf
        await anyio.lowlevel.checkpoint_if_cancelled()
        run.in_thread = True
        try:
            # Abandoned only when the worker ends at once: abort() doesn't cancel a run that is in a thread.
            value = await anyio.to_thread.run_sync(run.call, call, abandon_on_cancel=True, limiter=self._threads)
        finally:
            run.in_thread = False
        if not inspect.isawaitable(value):
            return value
        if run.deadline is not math.inf:
            run.scope.deadline = anyio.current_time() + (run.deadline - time.monotonic())
        if run.asked_to_stop is not None:
            run.scope.cancel()
        return await value

    def _context(self, run: Run, task: Task[..., Any, ...]) -> JobContext:
        options = self._state.options
        return JobContext(
            app=self._state.app,
            job=run.job,
            task=task,
            worker_name=options.worker_name,
            worker_queues=options.queue_names,
            start_timestamp=time.time(),
            additional_context=dict(options.additional_context or {}),
            abort_reason=run.abort_reason,
        )

    def _log_end(self, run: Run, end: End, outcome: Outcome) -> None:
        job = run.job
        lasted_s = time.monotonic() - run.started_at
        exception = end.exception if isinstance(end, Raised | Unrunnable) else None
        match outcome.status:
            case Status.SUCCEEDED:
                level, action, what = logging.INFO, "job_success", "succeeded"
            case Status.ABORTED:
                level, action, what, exception = logging.INFO, "job_aborted", "was aborted", None
            case Status.TODO if outcome.retry is not None:
                level, action, what = logging.INFO, "job_error_retry", "failed and will be retried"
            case Status.TODO:
                level, action, what, exception = logging.INFO, "job_put_back", "was stopped and is put back", None
            case _:
                level, action, what = logging.ERROR, "job_error", "failed"
        logger.log(
            level,
            "Job %d (%s) %s after %.3f s",
            job.id,
            job.task_name,
            what,
            lasted_s,
            exc_info=exception,
            extra=self._log(action, job, duration=lasted_s),
        )

    def _log(self, action: str, job: Job, **more: Any) -> dict[str, Any]:
        return self._state.log_extra(action, job, **more)


def _misfit(task: Task[..., Any, ...], args: tuple[Any, ...], job: Job) -> bool:
    """Whether a TypeError came from the call, not from the task: asked only where there was one, since it is slow."""
    try:
        inspect.signature(task.func).bind(*args, **job.task_kwargs)
    except TypeError:
        return True
    except ValueError:  # a builtin without a signature
        return False
    return False
