"""The worker: a list of loops, how they start and how they stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

from procrastinate_deps import eventloop, statements
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.context import AbortReason
from procrastinate_deps.exceptions import ConnectorException, SyncConnectorConfigurationError
from procrastinate_deps.middleware import Wrapping
from procrastinate_deps.worker import options as defaults
from procrastinate_deps.worker.aborter import Aborter
from procrastinate_deps.worker.exchange import Exchange
from procrastinate_deps.worker.finisher import Finisher
from procrastinate_deps.worker.folder import Folder
from procrastinate_deps.worker.heartbeat import Heartbeat
from procrastinate_deps.worker.interrupts import Interrupts
from procrastinate_deps.worker.isolation import torn_down
from procrastinate_deps.worker.line import Report
from procrastinate_deps.worker.listener import Listener
from procrastinate_deps.worker.options import DeleteJobs, WorkerOptions
from procrastinate_deps.worker.orders import Orders
from procrastinate_deps.worker.progress import ProgressWriter
from procrastinate_deps.worker.pruner import Pruner
from procrastinate_deps.worker.rescuer import Rescuer
from procrastinate_deps.worker.runner import Runner
from procrastinate_deps.worker.scheduler import Scheduler
from procrastinate_deps.worker.state import WorkerState
from procrastinate_deps.worker.statistics import Statistics
from procrastinate_deps.worker.sweeper import Sweeper
from procrastinate_deps.worker.troubles import FAREWELL_S, shown_on_stderr
from procrastinate_deps.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from procrastinate_deps.app import App
    from procrastinate_deps.middleware import TaskMiddleware, WorkerMiddleware
    from procrastinate_deps.worker.line import Line

logger = logging.getLogger(__name__)

CANCELLED_BY_OTHERS = (
    "a task of the worker's own was cancelled by other code in its event loop, as by a job that cancels "
    "asyncio.all_tasks(); cancel only what you have started"
)


class Loop(Protocol):
    """What every loop of the worker looks like; `started` says that the next one may start."""

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None: ...


class Worker:
    """Runs the jobs of an app until it is told to stop. The options are procrastinate's.

    Parameters
    ----------
    app:
        An open app; the tasks that it knows are those that can be run.
    queues:
        Names of the queues to serve. Default: all.
    name:
        Name of the worker, for the log and `list_workers`. Default: "worker".
    concurrency:
        How many jobs may run at the same time. Default: 1.
    wait:
        False: stop when nothing is left that could be fetched and nothing runs. Default: True.
    fetch_job_polling_interval:
        Seconds after which jobs are looked for that nobody announced. Default: 5.
    abort_job_polling_interval:
        Seconds after which requests to abort are looked for that nobody announced. Default: 5.
    shutdown_graceful_timeout:
        Seconds that a stopping worker waits for running jobs; then they are aborted and put back. Default: no limit.
    listen_notify:
        Whether to listen for announcements, on a connection of its own. Default: True.
    listen_dsn:
        Where to listen, a connection string: for an app whose connector reaches the database through a pooler. Default:
        as the connector says.
    delete_jobs:
        "never", "successful" or "always": whether jobs that ended are deleted. Default: "never".
    additional_context:
        A dict that tasks find as `context.additional_context`, a copy for each job.
    install_signal_handlers:
        Whether SIGINT and SIGTERM stop the worker. Default: True.
    update_heartbeat_interval:
        Seconds between two signs of life. Default: 10.
    stalled_worker_timeout:
        Seconds without one after which a worker is lost and its jobs are taken back. Default: 30.
    max_rescues:
        How many times a job is taken back before it fails. Default: 3.
    prune_after:
        Hours, or a timedelta, after which jobs that ended are deleted: of all queues, however they ended, but none that
        an unfinished child still has. Default: never.
    blocked_loop_threshold:
        Seconds that a task may block the event loop before there is a warning. None or 0: no warning. Default: 1.
    sweep_interval:
        Seconds after which one of all workers looks for damage in the tables, and mends it. None or 0: this one never
        does. Default: 600.
    task_middleware:
        Functions around every task of their own kind, the first one outermost: sync ones around functions, async ones
        around coroutine functions; see `procrastinate_deps.middleware`. Default: none.
    worker_middleware:
        Coroutine functions around the processing of every job, outside of all task_middleware. Default: none.
    supervisor:
        The line to the supervisor that started this process, if one did: see `procrastinate_deps.worker.processes`.
    """

    def __init__(
        self,
        app: App,
        *,
        queues: Iterable[str] | None = None,
        name: str | None = None,
        concurrency: int = defaults.CONCURRENCY,
        wait: bool = True,
        fetch_job_polling_interval: float = defaults.FETCH_POLL_INTERVAL_S,
        abort_job_polling_interval: float = defaults.ABORT_POLL_INTERVAL_S,
        shutdown_graceful_timeout: float | None = None,
        listen_notify: bool = True,
        listen_dsn: str | None = None,
        delete_jobs: DeleteJobs = "never",
        additional_context: Mapping[str, Any] | None = None,
        install_signal_handlers: bool = True,
        update_heartbeat_interval: float = defaults.HEARTBEAT_INTERVAL_S,
        stalled_worker_timeout: float = defaults.STALLED_TIMEOUT_S,
        max_rescues: int = defaults.MAX_RESCUES,
        prune_after: float | timedelta | None = None,
        blocked_loop_threshold: float | None = defaults.BLOCKED_LOOP_THRESHOLD_S,
        sweep_interval: float | None = defaults.SWEEP_INTERVAL_S,
        task_middleware: Sequence[TaskMiddleware] | None = None,
        worker_middleware: Sequence[WorkerMiddleware] | None = None,
        supervisor: Line | None = None,
    ) -> None:
        self.app = app
        self.options = WorkerOptions(
            queues=queues,
            name=name,
            concurrency=concurrency,
            wait=wait,
            fetch_job_polling_interval=fetch_job_polling_interval,
            abort_job_polling_interval=abort_job_polling_interval,
            shutdown_graceful_timeout=shutdown_graceful_timeout,
            listen_notify=listen_notify,
            listen_dsn=listen_dsn,
            delete_jobs=delete_jobs,
            additional_context=additional_context,
            install_signal_handlers=install_signal_handlers,
            update_heartbeat_interval=update_heartbeat_interval,
            stalled_worker_timeout=stalled_worker_timeout,
            max_rescues=max_rescues,
            prune_after=prune_after,
            blocked_loop_threshold=blocked_loop_threshold,
            sweep_interval=sweep_interval,
            supervisor=supervisor,
        )
        self._wrapping = Wrapping(self, task_middleware, worker_middleware)
        self._shift: Shift | None = None
        self._stop_requested = False
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    def stop(self) -> None:
        """Fetch nothing more, wait for the running jobs, return from `run`. May be called in any thread."""
        self._stop_requested = True
        if self._shift is None or self._home is None:
            return
        thread, loop = self._home
        if thread == threading.get_ident():
            self._shift.stop()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
            loop.call_soon_threadsafe(self._shift.stop)

    async def run(self) -> None:
        """Work until stopped.

        A cancellation stops the worker gracefully, as `stop` does, and goes on when that is done; a second one of the
        surrounding asyncio task stops it at once.

        Raises
        ------
        SyncConnectorConfigurationError:
            The app's connector is sync.
        SchemaNotReady:
            The database's schema is missing, too old or too new.
        ConnectorException:
            The database can't be reached at the start. Later the worker waits until it can.
        """
        if self._shift is not None:
            raise RuntimeError("this worker runs already; make another Worker to run a second one")
        connector = self.app.connector
        if not isinstance(connector, AsyncConnector):
            raise SyncConnectorConfigurationError(
                f"a worker needs an async connector, as PsycopgConnector or AsyncpgConnector; "
                f"this app has {type(connector).__name__}"
            )
        await self.app.schema_manager.check_async()
        self._home = threading.get_ident(), asyncio.get_running_loop()
        shift = self._shift = Shift(self.app, connector, self.options, self._wrapping)
        if self._stop_requested:
            shift.stop()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(shift.work)
                await shift.wait_until_over()
        finally:
            self._shift = None
            self._stop_requested = False
        if shift.failure is not None:
            raise shift.failure


class Shift:
    """One run of a worker."""

    def __init__(self, app: App, connector: AsyncConnector, options: WorkerOptions, wrapping: Wrapping) -> None:
        self.failure: Exception | None = None
        self._options = options
        self._stop_requested = anyio.Event()
        self._over = anyio.Event()
        self._grace_s = options.shutdown_graceful_timeout
        self._winding_down = False
        # Cancelled when the worker shall stop at once.
        self._patience = anyio.CancelScope()
        # What `Worker.run` runs in.
        self._host: asyncio.Task[Any] | None = None
        # The signal that said so, if it was one.
        self._insistent: signal.Signals | None = None

        self._state = WorkerState(app, connector, options)
        self._finisher = Finisher(self._state)
        self._statistics = Statistics(self._state)
        self._progress = ProgressWriter(self._state)
        self._runner = Runner(self._state, self._finisher, self._statistics, self._progress, wrapping)
        self._exchange = Exchange(self._state, self._runner, self._finisher, self.stop)
        self._aborter = Aborter(self._state, self._runner)
        self._listener = Listener(self._state, self._runner, self._aborter.look_now)
        self._heartbeat = Heartbeat(self._state, self._runner)
        self._rescuer = Rescuer(self._state)
        self._scheduler = Scheduler(self._state)
        self._pruner = Pruner(self._state)
        self._folder = Folder(self._state)
        self._sweeper = Sweeper(self._state)
        self._watchdog = Watchdog(self._state, self._runner)
        self._interrupts = Interrupts(self._state, self.stop, self.stop_now)
        self._orders = Orders(self._state, self.stop, self.stop_now)

    @property
    def _loops(self) -> list[Loop]:
        """In the order in which they start: one listens before the first fetch."""
        return [
            self._interrupts,
            self._orders,
            self._finisher,
            self._runner,
            self._listener,
            self._heartbeat,
            self._aborter,
            self._rescuer,
            self._scheduler,
            self._statistics,
            self._progress,
            self._pruner,
            self._folder,
            self._sweeper,
            self._watchdog,
            self._exchange,
        ]

    def stop(self) -> None:
        self._state.stopping = True
        self._runner.give_back_all_waiting()
        self._state.fetch.set()
        self._stop_requested.set()

    def stop_now(self, received: signal.Signals | None = None) -> None:
        self._insistent = self._insistent or received
        self.stop()
        self._patience.cancel()

    async def wait_until_over(self) -> None:
        """Wait for the end of `work`, and turn a cancellation of the waiting into a stop."""
        self._host = asyncio.current_task()
        try:
            await self._over.wait()
        except anyio.get_cancelled_exc_class():
            self.stop()
            with anyio.CancelScope(shield=True):
                try:
                    await self._over.wait()
                except anyio.get_cancelled_exc_class():
                    self.stop_now()
                    await self._over.wait()
            raise

    async def work(self) -> None:
        # The surrounding cancellation is wait_until_over's: jobs must not feel it.
        with anyio.CancelScope(shield=True):
            try:
                await self._work()
            except anyio.get_cancelled_exc_class():
                self.failure = self.failure or RuntimeError(CANCELLED_BY_OTHERS)
            except Exception as error:  # noqa: BLE001 - run() raises it, where it is not in an exception group
                self.failure = self.failure or error
            finally:
                self._over.set()

    async def _work(self) -> None:
        await self._state.register()
        logger.info(
            "Worker %s starts: %s, up to %d job(s) at a time, on %s",
            self._options.worker_name,
            "every queue" if self._options.queue_names is None else f"queues {', '.join(self._options.queue_names)}",
            self._options.concurrency,
            eventloop.running(),
            extra=self._state.log_extra("start_worker", event_loop=eventloop.running()),
        )
        try:
            async with anyio.create_task_group() as group:
                for loop in self._loops:
                    await group.start(self._guarded, loop)
                if self._options.supervisor is not None:
                    self._options.supervisor.report(
                        Report.SERVES_UNTIL_STOPPED if self._options.wait else Report.SERVES_ONCE
                    )
                await self._stop_requested.wait()
                await self._wind_down()
                with anyio.move_on_after(FAREWELL_S):
                    await self._state.quiet()
                group.cancel_scope.cancel()
        finally:
            await self._leave()

    async def _guarded(self, loop: Loop, *, task_status: TaskStatus[None]) -> None:
        """A loop that fails ends the worker: it must not go on without one, and nobody notice."""
        once = _Once(task_status)
        try:
            await loop.run(task_status=once)
        except anyio.get_cancelled_exc_class():
            if torn_down():
                raise
            # Of those that are cancelled together one tells it, and none where `run` is cancelled with them.
            told = self.failure is not None or (self._host is not None and self._host.cancelling() > 0)
            self._fail(loop, RuntimeError(CANCELLED_BY_OTHERS), told)
        except Exception as error:  # noqa: BLE001 - run() raises it, when the jobs have been put back
            self._fail(loop, error)
        finally:
            if loop is self._exchange:
                self._exchange.fetched_last.set()
                self._finisher.send_fresh_too()
            if loop is self._runner and not self._runner.closed:
                self._runner.forget_all()
            once.started()

    def _fail(self, loop: Loop, error: Exception, told: bool = False) -> None:
        self.failure = self.failure or error
        self._grace_s = 0
        self.stop()
        if not told:
            with shown_on_stderr():
                logger.critical(
                    "%s failed, the worker stops: %s",
                    type(loop).__name__,
                    error,
                    extra=self._state.log_extra("worker_failed"),
                )
        if self._winding_down:
            # What is waited for may never come.
            self._patience.cancel()

    async def _wind_down(self) -> None:
        self._winding_down = True
        stop_at = math.inf if self._grace_s is None else time.monotonic() + self._grace_s

        def within(at_least_s: float = 0) -> anyio.CancelScope:
            return anyio.move_on_after(max(stop_at - time.monotonic(), at_least_s))

        with self._patience:
            with within(FAREWELL_S):
                await self._exchange.fetched_last.wait()
            with within():
                await self._runner.idle()
            if self._runner.running:
                logger.info(
                    "%d job(s) still run after the graceful timeout of %s s: they are asked to abort",
                    self._runner.running,
                    self._grace_s,
                    extra=self._state.log_extra("abort_at_shutdown"),
                )
                self._runner.abort_all(AbortReason.SHUTDOWN)
                await self._runner.idle()
            with within(FAREWELL_S):
                await self._finisher.drained()
                await self._folder.fold_last()
        if self._patience.cancel_called:
            with anyio.move_on_after(FAREWELL_S):
                self._runner.abandon_all()
                await self._exchange.fetched_last.wait()
                await self._runner.idle()
                await self._finisher.drained()
            if self._insistent is not None and self._runner.goes_on:
                await self._leave()
                _die_of(self._insistent)
        self._runner.close()

    async def _leave(self) -> None:
        if unrecorded := self._finisher.pending + self._runner.running:
            logger.warning(
                "The ends of %d job(s) are not recorded; others take these jobs back",
                unrecorded,
                extra=self._state.log_extra("ends_not_recorded"),
            )
        if self._state.worker_id is not None:
            with anyio.move_on_after(FAREWELL_S):
                try:
                    await self._state.execute(statements.unregister_worker(self._state.worker_id))
                except ConnectorException as error:
                    logger.warning(
                        "The worker could not unregister: %s", error, extra=self._state.log_extra("unregister_error")
                    )
        logger.info("Worker %s has stopped", self._options.worker_name, extra=self._state.log_extra("stop_worker"))


class _Once(TaskStatus[None]):
    """A loop says once that it has started, its guard says it again for one that failed before."""

    def __init__(self, task_status: TaskStatus[None]) -> None:
        self._task_status = task_status
        self._said = False

    def started(self, value: None = None) -> None:
        if not self._said:
            self._said = True
            self._task_status.started(value)


def _die_of(received: signal.Signals) -> None:
    """End the process as the signal does by default: threads and tasks that don't stop would keep it alive."""
    logger.warning("Some jobs can't be stopped: the process ends by %s", received.name, extra={"action": "killed"})
    signal.signal(received, signal.SIG_DFL)
    signal.raise_signal(received)
