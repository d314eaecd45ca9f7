"""Runs the jobs: coroutine functions in the event loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import math
import signal
import time
import types
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps.context import AbortReason, JobContext, running_job
from procrastinate_deps.exceptions import TaskNotFound
from procrastinate_deps.jobs import UnreadableJob
from procrastinate_deps.worker.isolation import in_context, leave_scopes_inside, torn_down
from procrastinate_deps.worker.outcomes import Cancelled, End, Raised, Returned, Unrunnable, given_back, outcome_of
from procrastinate_deps.worker.run import Run
from procrastinate_deps.worker.run_log import RunLog
from procrastinate_deps.worker.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anyio.abc import TaskGroup, TaskStatus

    from procrastinate_deps.jobs import Job
    from procrastinate_deps.middleware import Wrapped, Wrapping
    from procrastinate_deps.tasks import Task
    from procrastinate_deps.worker.finisher import Finisher
    from procrastinate_deps.worker.progress import ProgressWriter
    from procrastinate_deps.worker.state import WorkerState
    from procrastinate_deps.worker.statistics import Statistics

# So long one slot may run jobs that never wait before the other loops get their turn: outcomes are sent, and jobs
# fetched, while the rest of a batch runs.
MAX_TURN_S = 0.001

# So long a job that was fetched ahead may wait for a slot. It is this worker's meanwhile, and nobody else's.
MAX_AHEAD_S = 0.1

# So often it is seen whether a thread has ended whose job was cancelled by a time limit of a middleware's own.
THREAD_POLL_S = 0.05


class Runner:
    """Runs jobs in slots, each a task of the event loop, at most as many as jobs may run at the same time.

    A slot runs one job after another, each in a context of its own (context variables are not shared). When a job waits
    for the first time, another slot goes on with the next one; a job that never waits costs neither a task nor a cancel
    scope, which were half of what a worker spent on a job that does nothing. A slot whose job has waited, was cancelled
    or has left a scope open isn't used again.
    """

    def __init__(
        self,
        state: WorkerState,
        finisher: Finisher,
        statistics: Statistics,
        progress: ProgressWriter,
        wrapping: Wrapping,
    ) -> None:
        self._state = state
        self._log = RunLog(state)
        self._progress = progress
        self._finisher = finisher
        self._statistics = statistics
        self._wrapping = wrapping
        self._runs: set[Run] = set()
        # Those of them that have not begun, until a slot comes to them: for a moment, or fetched ahead.
        self._next: deque[Run] = deque()
        self._begun = 0
        # How many have ended since the worker started.
        self.ended = 0
        self._idle_slots: list[Wakeup] = []
        # Threads are never waited for: there are as many as jobs may run.
        self._threads = anyio.CapacityLimiter(state.options.concurrency)
        self._group: TaskGroup | None = None
        self._closed = anyio.Event()
        self._ended = Wakeup()
        self._abandoned: list[Run] = []
        self._expecting = False
        self._aborted_early: set[int] = set()
        # How long there were jobs to run, but for the time since the last moment at which there were none.
        self._busy_s = 0.0
        self._busy_since = 0.0

    @property
    def running(self) -> int:
        return len(self._runs)

    @property
    def busy_s(self) -> float:
        """For how many seconds there were jobs to run, since the worker started."""
        return self._busy_s + (time.monotonic() - self._busy_since if self._runs else 0)

    def free(self, ahead: int = 0) -> int:
        """How many jobs can be fetched, when up to `ahead` may wait for a slot."""
        return max(self._state.options.concurrency + ahead - len(self._runs), 0)

    @property
    def _next_with_slot(self) -> int:
        """How many of the next jobs have a slot each, and wait for nothing but their turn on the event loop."""
        return self._state.options.concurrency - self._begun

    @property
    def late_after_s(self) -> float | None:
        """In how many seconds a job that was fetched ahead has waited for too long; None: none waits."""
        if len(self._next) <= self._next_with_slot:
            return None
        return max(self._next[self._next_with_slot].fetched_at + MAX_AHEAD_S - time.monotonic(), 0)

    def give_back_late(self) -> bool:
        """Put back the jobs that have waited for a slot for too long: others may have one. Whether there were any."""
        if len(self._next) <= self._next_with_slot:
            return False
        fetched_before = time.monotonic() - MAX_AHEAD_S
        ahead = list(self._next)[self._next_with_slot :]
        return self._give_back_waiting([run for run in ahead if run.fetched_at <= fetched_before])

    def give_back_all_waiting(self) -> None:
        """Put back whatever has not begun."""
        self._give_back_waiting(list(self._next))

    def _give_back_waiting(self, waiting: list[Run]) -> bool:
        if not waiting:
            return False
        self._runs.difference_update(waiting)
        self._note_if_idle()
        self._next = deque(run for run in self._next if run in self._runs)
        self.give_back(run.job for run in waiting)
        self._ended.set()
        return True

    def jobs(self) -> list[Job]:
        return [run.job for run in self._runs]

    def jobs_in_threads(self) -> list[Job]:
        """May be asked by another thread."""
        return [run.job for run in tuple(self._runs) if run.in_thread]

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as self._group:
            task_status.started()
            await self._closed.wait()
            self._group.cancel_scope.cancel()  # the slots, which are idle

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def forget_all(self) -> None:
        """The slots have ended, by an error: nobody is to wait for what they would have run."""
        self._next.clear()
        for run in list(self._runs):
            self._gone(run)

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
        if not self._runs:
            self._busy_since = time.monotonic()
        for job in jobs:
            task = self._state.app.tasks.get(job.task_name)
            run = Run(job, task)
            self._runs.add(run)
            if job.abort_requested or job.id in self._aborted_early:
                run.abort(AbortReason.USER_REQUEST)
            self._next.append(run)
        self._wake_slot()

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Put back jobs that were fetched when the worker had begun to stop, or to re-register."""
        for job in jobs:
            self._finisher.add(given_back(job))
            self._log.put_back(job)

    def abort(self, job_ids: Iterable[int]) -> None:
        """Someone asked for these jobs to be aborted."""
        wanted = set(job_ids)
        for run in self._runs:
            # One that was lost may go on in its thread, beside the one that this worker has fetched since.
            if run.job.id in wanted and run.asked_to_stop is not AbortReason.LOST:
                wanted.discard(run.job.id)
                if run.asked_to_stop is None:
                    self._log.abort_requested(run.job)
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
            run.cancel()

    @property
    def goes_on(self) -> bool:
        """Whether something runs that could not be ended: a thread, or a coroutine that ignores its cancellation."""
        return bool(self._runs) or any(run.thread_alive for run in self._abandoned)

    async def idle(self) -> None:
        """Wait until no job runs."""
        while self._runs:
            self._ended.clear()
            await self._ended.wait()

    def _note_if_idle(self) -> None:
        if not self._runs:
            self._busy_s += time.monotonic() - self._busy_since

    def _wake_slot(self) -> None:
        """See to it that a slot goes on with the next job."""
        if self._next and self._begun < self._state.options.concurrency and self._group is not None:
            if self._idle_slots:
                self._idle_slots.pop().set()
            else:
                self._group.start_soon(self._slot, name="slot")

    async def _slot(self) -> None:
        try:
            with anyio.CancelScope() as scope:
                await self._run_one_after_another(scope)
            # A cancellation that the job hasn't felt ends here.
            await anyio.lowlevel.cancel_shielded_checkpoint()
        except anyio.get_cancelled_exc_class():
            if torn_down():
                raise
        self._wake_slot()

    async def _run_one_after_another(self, scope: anyio.CancelScope) -> None:
        """Return when a job has waited, or was cancelled: what it tied to its task must not reach the next job.

        That may be a timer that cancels the task, or a session that is kept for each task and was not closed.
        """
        wakeup = Wakeup()
        this_task = asyncio.current_task()
        while True:
            turn_ends_at = time.monotonic() + MAX_TURN_S
            while self._next and self._begun < self._state.options.concurrency:
                run = self._next.popleft()
                await self._run(run, scope)
                if (
                    run.waited
                    or scope.cancel_called
                    or run.left_open
                    or (this_task is not None and this_task.cancelling())
                ):
                    return
                if time.monotonic() >= turn_ends_at:
                    await anyio.lowlevel.checkpoint()
                    turn_ends_at = time.monotonic() + MAX_TURN_S
            wakeup.clear()
            self._idle_slots.append(wakeup)
            try:
                await wakeup.wait()
            except anyio.get_cancelled_exc_class():
                # By a timer that a job of this slot has left behind. Nobody shall wait for this slot.
                if wakeup in self._idle_slots:
                    self._idle_slots.remove(wakeup)
                raise

    async def _run(self, run: Run, scope: anyio.CancelScope) -> None:
        """Run a job to its end, in a slot that `scope` cancels."""
        job = run.job
        self._log.starts(job)
        run.started_at = time.monotonic()
        self._begun += 1
        try:
            end = await self._execute(run, scope)
        except anyio.get_cancelled_exc_class():
            # Torn down with all slots, since one has failed.
            self._gone(run)
            if run.asked_to_stop is not AbortReason.LOST:
                self.give_back([job])
            raise
        except Exception as error:  # noqa: BLE001 - the job must end, whatever could not be done for it
            run.left_open = True
            end = Raised(error)
        finally:
            self._begun -= 1
            self.ended += 1
        try:
            self._record(run, end)
        finally:
            self._gone(run)

    def _gone(self, run: Run) -> None:
        """Nobody is to wait for this run any longer."""
        self._runs.discard(run)
        self._note_if_idle()
        self._ended.set()

    def _record(self, run: Run, end: End) -> None:
        job = run.job
        if run.scope is not None and run.scope.cancel_called and run.asked_to_stop is None:
            # Only its deadline cancels a scope that nobody has; the loop's timer may be a tick ahead of the clock.
            run.asked_to_stop = AbortReason.TIMEOUT
        reason = run.abort_reason()
        if reason is AbortReason.LOST:
            self._log.lost(job)
            self._state.fetch.set()
            return
        outcome = outcome_of(job, run.task, end, reason, self._state.connector.json_dumps)
        self._finisher.add(outcome)
        self._statistics.add(job, outcome, time.monotonic() - run.started_at)
        self._log.ended(run, end, outcome)

    async def _execute(self, run: Run, slot_scope: anyio.CancelScope) -> End:
        task = run.task
        if task is None:
            return Unrunnable(
                TaskNotFound(
                    f"task {run.job.task_name!r} is not known to this worker's app; "
                    "list the module that defines it in App(import_paths=[...])"
                )
            )
        if run.asked_to_stop is not None:
            return Cancelled()
        if isinstance(run.job, UnreadableJob):
            return Unrunnable(run.job.problem)
        args = (self._context(run, task),) if task.pass_context else ()
        try:
            if task.timeout is None:
                run.scope = slot_scope
                return Returned(await self._call(run, task, args))
            run.deadline = time.monotonic() + task.timeout
            with anyio.CancelScope(deadline=anyio.current_time() + task.timeout) as run.scope:
                return Returned(await self._call(run, task, args))
        except anyio.get_cancelled_exc_class() as exception:
            if slot_scope.cancel_called:
                return Cancelled()
            # Not by this run's scope. Either the whole worker is being torn down, or the task cancelled itself.
            if torn_down():
                raise
            return Raised(exception)
        except GeneratorExit:
            raise
        except BaseException as exception:  # SystemExit too: a task that exits has failed, not the worker
            if isinstance(exception, TypeError) and _misfit(task, args, run.job):
                return Unrunnable(exception)
            if isinstance(exception, KeyboardInterrupt) and _is_ctrl_c(task):
                raise
            # A coroutine that turned its cancellation into an error of its own was stopped by us all the same.
            cancelled = run.scope is not None and run.scope.cancel_called
            stopped_by_shutdown = cancelled and run.abort_reason() is AbortReason.SHUTDOWN
            return Cancelled() if stopped_by_shutdown else Raised(exception)
        return Cancelled()

    async def _call(self, run: Run, task: Task[..., Any, ...], args: tuple[Any, ...]) -> Any:
        kwargs = run.job.task_kwargs
        if (wrapped := self._wrapping.of(task)) is not None:
            context = args[0] if args else self._context(run, task)
            job = self._with_middleware(run, wrapped, context, functools.partial(wrapped.call, context, **kwargs))
        elif task.is_async:
            job = task.func(*args, **kwargs)
        else:
            job = self._in_thread(run, functools.partial(task.func, *args, **kwargs))
        context_of_job = contextvars.copy_context()
        context_of_job.run(running_job.set, run.job)

        def waits() -> None:
            run.waited = True
            self._wake_slot()

        try:
            value = await in_context(job, context_of_job, waits)
            while type(value) is types.CoroutineType:
                value = await in_context(value, context_of_job, waits)
        finally:
            if run.scope is not None and leave_scopes_inside(run.scope):
                run.left_open = True
                self._log.scope_left_open(run.job)
        return value

    async def _with_middleware(
        self, run: Run, wrapped: Wrapped, context: JobContext, call: functools.partial[Any]
    ) -> Any:
        if wrapped.around is None:
            return await (call() if context.task.is_async else self._in_thread(run, call))
        call_next = call if context.task.is_async else functools.partial(self._in_thread_amid, run, call)
        return await wrapped.around(context, call_next)

    async def _in_thread_amid(self, run: Run, call: functools.partial[Any]) -> Any:
        """With a coroutine around it, which can be stopped again as soon as the thread has ended."""
        try:
            return await self._in_thread(run, call)
        except anyio.get_cancelled_exc_class():
            await self._outlive_thread(run)
            raise
        finally:
            self._in_loop_again(run)

    async def _outlive_thread(self, run: Run) -> None:
        """A middleware's own time limit can't end the thread: the slot is kept for it, unless all is to end now."""
        run.in_thread = True
        try:
            while run.thread_alive and not (
                run.is_cancelled or (self._group and self._group.cancel_scope.cancel_called)
            ):
                with contextlib.suppress(anyio.get_cancelled_exc_class()), anyio.CancelScope(shield=True):
                    await anyio.sleep(THREAD_POLL_S)
        finally:
            run.in_thread = False

    async def _in_thread(self, run: Run, call: functools.partial[Any]) -> Any:
        if run.task is not None and run.task.timeout is not None:
            # The thread can't be interrupted: it reads the deadline through its context, and keeps its slot meanwhile.
            run.set_deadline(math.inf)
        await anyio.lowlevel.checkpoint_if_cancelled()
        run.in_thread = True
        try:
            # Abandoned only when the worker ends at once: abort() doesn't cancel a run that is in a thread.
            value = await anyio.to_thread.run_sync(run.call, call, abandon_on_cancel=True, limiter=self._threads)
        finally:
            run.in_thread = False
        if not inspect.isawaitable(value):
            return value
        self._in_loop_again(run)
        return await value

    def _in_loop_again(self, run: Run) -> None:
        """The thread has ended, and what follows can be cancelled: by what was asked of the thread, too."""
        if run.deadline < math.inf:
            run.set_deadline(anyio.current_time() + (run.deadline - time.monotonic()))
        if run.asked_to_stop is not None:
            run.cancel()

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
            report_progress=functools.partial(self._progress.report, run.job),
        )


def _misfit(task: Task[..., Any, ...], args: tuple[Any, ...], job: Job) -> bool:
    """Whether a TypeError came from the call, not from the task: asked only where there was one, since it is slow."""
    try:
        inspect.signature(task.func).bind(*args, **job.task_kwargs)
    except TypeError:
        return True
    except ValueError:  # a builtin without a signature
        return False
    return False


def _is_ctrl_c(task: Task[..., Any, ...]) -> bool:
    """Whether an interrupt may be a person's: where nobody handles SIGINT, whatever runs in the main thread gets it."""
    return task.is_async and signal.getsignal(signal.SIGINT) is signal.default_int_handler
