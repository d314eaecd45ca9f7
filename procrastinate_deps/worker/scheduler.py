"""Defers the periodic tasks: every worker tries, the database sees to it that each period is deferred once."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException, InvalidArguments, ProcrastinateException
from procrastinate_deps.jobs import PeriodicOutcome
from procrastinate_deps.worker.troubles import Backoff, passes_by_itself

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from procrastinate_deps.periodic import PeriodicTask
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

# After so long the database is asked for the time, where no deferral has brought it: clocks drift, and stand still
# while a machine sleeps.
CLOCK_AGE_LIMIT_S = 60.0
RETRY_FIRST_S = 0.1
RETRY_LIMIT_S = 5.0

# SQLSTATE classes of a job that the database doesn't take: a value that doesn't fit, a constraint.
_JOB_REFUSED = ("22", "23")


class DatabaseClock:
    """The database's time, as told at the last answer; this host's own clock may be wrong.

    Never ahead of it: an answer is some time on its way.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._told_at = float("-inf")

    def tell(self, now: float) -> None:
        self._told_at = time.monotonic()
        self._ahead = now - self._told_at

    def now(self) -> float:
        return time.monotonic() + self._ahead

    @property
    def good_for_s(self) -> float:
        return max(self._told_at + CLOCK_AGE_LIMIT_S - time.monotonic(), 0.0)


class Scheduler:
    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._max_delay_s = state.app.periodic_defaults.max_delay
        self._tasks: list[PeriodicTask] = []
        # The first period of each that is not dealt with.
        self._next: dict[tuple[str, str], int] = {}
        self._clock = DatabaseClock()
        self._errors = Backoff(RETRY_FIRST_S, RETRY_LIMIT_S)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        self._tasks = [each for each in self._state.app.periodic_registry.periodic_tasks.values() if self._usable(each)]
        started = False
        while self._tasks and not self._state.stopping:
            try:
                pause_s = await self._step()
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                pause_s = self._errors.next_s()
                logger.warning(
                    "Periodic jobs can't be deferred now, next try in %.1f s: %s",
                    pause_s,
                    error,
                    extra=self._state.log_extra("periodic_error"),
                )
            else:
                self._errors.reset()
            if not started:
                # Now: a worker that stops when nothing is left to run runs what is due.
                task_status.started()
                started = True
            await anyio.sleep(pause_s)
        if not started:
            task_status.started()

    def _usable(self, periodic: PeriodicTask) -> bool:
        try:
            statements.register_periodic_tasks([periodic.spec()], json_dumps=self._state.connector.json_dumps)
        except InvalidArguments as error:
            self._log(logging.ERROR, "periodic_task_unusable", "Periodic task %s is left out: %s", periodic, error)
            return False
        return True

    async def _step(self) -> float:
        """Defer what is due; returns how many seconds to wait."""
        if not self._next:
            await self._register()
        elif not self._clock.good_for_s:
            self._clock.tell(await self._state.execute(statements.get_clock()))
        for periodic in self._tasks:
            await self._defer_due(periodic, self._clock.now())
        next_s = min(self._next.values()) - self._clock.now()
        return min(max(next_s, 0.0), self._clock.good_for_s)

    async def _register(self) -> None:
        specs = [each.spec() for each in self._tasks]
        state = await self._state.execute(
            statements.register_periodic_tasks(specs, json_dumps=self._state.connector.json_dumps)
        )
        self._clock.tell(state.clock)
        for each in self._tasks:
            last = state.last[each.key]
            if last is not None:
                self._next[each.key] = each.schedule.next_after(last)
                continue
            # A new task begins with its latest period, not with all that it could have had before.
            latest = each.schedule.latest(state.clock, self._max_delay_s)
            self._next[each.key] = each.schedule.next_after(state.clock) if latest is None else latest

    async def _defer_due(self, periodic: PeriodicTask, now: float) -> None:
        key, schedule = periodic.key, periodic.schedule
        oldest = math.ceil(now - self._max_delay_s) if self._max_delay_s < math.inf else 0
        if self._next[key] < oldest:
            self._log(
                logging.INFO,
                "ignore_periodic_task",
                "Periodic task %s: its periods from %d on are left out up to %d, %g s ago",
                periodic,
                self._next[key],
                oldest,
                self._max_delay_s,
            )
            self._next[key] = schedule.next_after(oldest - 1)
        while self._next[key] <= now and not self._state.stopping:
            if not await self._defer(periodic, self._next[key]):
                break
            self._next[key] = schedule.next_after(self._next[key])

    async def _defer(self, periodic: PeriodicTask, period: int) -> bool:
        """Whether this period is dealt with; False: it is too early."""
        try:
            deferral = await self._state.execute(
                statements.defer_periodic_job(periodic.spec(), period, json_dumps=self._state.connector.json_dumps)
            )
        except ProcrastinateException as error:
            if isinstance(error, ConnectorException) and not (error.sqlstate or "").startswith(_JOB_REFUSED):
                raise
            self._log(
                logging.ERROR,
                "periodic_task_refused",
                "Periodic task %s: its job for %d can't be deferred: %s",
                periodic,
                period,
                error,
                timestamp=period,
            )
            return True
        self._clock.tell(deferral.clock)
        match deferral.outcome:
            case PeriodicOutcome.EARLY:
                return False
            case PeriodicOutcome.DEFERRED:
                self._log(
                    logging.INFO,
                    "periodic_task_deferred",
                    "Periodic task %s: deferred job %d for %d",
                    periodic,
                    deferral.job_id,
                    period,
                    timestamp=period,
                    job_id=deferral.job_id,
                )
            case PeriodicOutcome.SKIPPED:
                self._log(
                    logging.INFO,
                    "skip_periodic_task_queueing_lock",
                    "Periodic task %s: no job for %d, one with its queueing lock is waiting",
                    periodic,
                    period,
                    timestamp=period,
                )
            case PeriodicOutcome.TAKEN:
                self._log(
                    logging.DEBUG,
                    "periodic_task_already_deferred",
                    "Periodic task %s: somebody has dealt with %d",
                    periodic,
                    period,
                    timestamp=period,
                )
        return True

    def _log(self, level: int, action: str, text: str, periodic: PeriodicTask, *values: Any, **more: Any) -> None:
        name, periodic_id = periodic.key
        label = f"{name} ({periodic_id})" if periodic_id else name
        extra = self._state.log_extra(action, task_name=name, periodic_id=periodic_id, **more)
        logger.log(level, text, label, *values, extra=extra)
