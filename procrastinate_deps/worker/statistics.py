"""Counts what runs come to, and adds the numbers to the database's."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.durations import histogram
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.jobs import Status
from procrastinate_deps.jsontext import encode
from procrastinate_deps.worker.troubles import FAREWELL_S, passes_by_itself

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from procrastinate_deps.jobs import Job, Outcome
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

SEND_INTERVAL_S = 10.0
# A run costs two appends; sums and histograms are made of so many at once (measured: 0.8 µs a run, all in all).
FOLD_AT = 500
# Queues and tasks that are counted apart: more of them (names made at run time) go into one count.
MAX_TALLIES = 1000
# Without a database: numbers in steps of a minute, 16 hours of them with 20 tasks; then the oldest go.
UNSENT_STEP_S = 60.0
MAX_UNSENT_ROWS = 20_000

KEPT_FOR = timedelta(days=7)
PRUNE_INTERVAL_S = 3600.0
PRUNE_BATCH = 1000


class Tally:
    """The runs of one queue and task with one status."""

    __slots__ = ("_run", "_wait", "count", "runs", "waits")

    def __init__(self) -> None:
        # Those that are not folded yet, in seconds.
        self.runs: list[float] = []
        self.waits: list[float] = []
        self.count = 0
        self._run = _Sums()
        self._wait = _Sums()

    def fold(self) -> None:
        if self.runs:
            self.count += len(self.runs)
            self._run.add(self.runs)
            self._wait.add(self.waits)
            self.runs.clear()
            self.waits.clear()

    def row(self) -> dict[str, Any]:
        """The columns of job_stats besides the key."""
        self.fold()
        return {"runs": self.count, **self._run.columns("run"), **self._wait.columns("wait")}


class _Sums:
    __slots__ = ("_histogram", "_max_s", "_min_s", "_sum_s")

    def __init__(self) -> None:
        self._sum_s = 0.0
        self._min_s = float("inf")
        self._max_s = 0.0
        self._histogram: list[int] = []

    def add(self, durations: list[float]) -> None:
        durations.sort()
        if durations[0] < 0:  # the clock of a database after a failover
            durations = [max(each, 0.0) for each in durations]
        self._sum_s += sum(durations)
        self._min_s = min(self._min_s, durations[0])
        self._max_s = max(self._max_s, durations[-1])
        counts = histogram(durations)
        counts += [0] * (len(self._histogram) - len(counts))
        for bucket, count in enumerate(self._histogram):
            counts[bucket] += count
        self._histogram = counts

    def columns(self, name: str) -> dict[str, Any]:
        return {
            f"{name}_sum": self._sum_s,
            f"{name}_min": self._min_s,
            f"{name}_max": self._max_s,
            f"{name}_histogram": self._histogram,
        }


@dataclass(slots=True)
class Batch:
    """Numbers that are sent in one statement; as they are, until the database has said that it has them.

    `at` is the middle of their time, on the monotonic clock. `sender` is the worker's id when they were first sent.
    """

    number: int
    at: float
    stats: str
    rows: int
    runs: int
    sender: int | None = None


class Statistics:
    """Nothing waits for it: numbers that can't be sent are kept, up to a limit, and sent later."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._tallies: dict[tuple[str, str, str], Tally] = {}
        self._since = time.monotonic()
        self._unsent: deque[Batch] = deque()
        self._number = 0
        self._prune_at = self._since + PRUNE_INTERVAL_S * random.uniform(0.1, 1)
        # Said already that they can't be sent, or are refused.
        self._failing = self._refused = False

    def add(self, job: Job, outcome: Outcome, lasted_s: float) -> None:
        """Count a run that ended."""
        status = outcome.status
        if status is Status.TODO and outcome.retry is None:
            return  # put back: that counts as no run
        tally = self._tallies.get((job.queue, job.task_name, status))
        if tally is None:
            tally = self._new_tally(job.queue, job.task_name, status)
        ready_at = job.ready_at or job.created_at
        if job.scheduled_at is not None and job.scheduled_at > ready_at:
            ready_at = job.scheduled_at
        tally.runs.append(lasted_s)
        tally.waits.append(((job.started_at or ready_at) - ready_at).total_seconds())
        if len(tally.runs) >= FOLD_AT:
            tally.fold()

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                # Spread, so that workers that started together don't send together.
                await anyio.sleep(SEND_INTERVAL_S * random.uniform(0.8, 1.2))
                await self._send()
                await self._prune()
        finally:
            self._close()
            with anyio.move_on_after(FAREWELL_S, shield=True):
                await self._send_batches()
            if self._unsent:
                logger.warning(
                    "The numbers of the last %d run(s) are not recorded",
                    sum(batch.runs for batch in self._unsent),
                    extra=self._state.log_extra("stats_lost"),
                )

    def _new_tally(self, queue: str, task_name: str, status: str) -> Tally:
        key = (queue, task_name, status) if len(self._tallies) < MAX_TALLIES else ("", "", status)
        return self._tallies.setdefault(key, Tally())

    async def _send(self) -> None:
        if await self._send_batches() or time.monotonic() - self._since >= UNSENT_STEP_S:
            self._close()
            await self._send_batches()

    def _close(self) -> None:
        """Make a batch of what was counted."""
        since, self._since = self._since, time.monotonic()
        if not self._tallies:
            return
        tallies, self._tallies = self._tallies, {}
        self._number += 1
        stats = [
            {"queue": queue, "task_name": task_name, "status": str(status), **tally.row()}
            for (queue, task_name, status), tally in tallies.items()
        ]
        runs = sum(tally.count for tally in tallies.values())
        self._unsent.append(Batch(self._number, (since + self._since) / 2, encode(stats), len(stats), runs))
        while len(self._unsent) > 1 and sum(batch.rows for batch in self._unsent) > MAX_UNSENT_ROWS:
            dropped = self._unsent.popleft()
            logger.warning(
                "The numbers of %d run(s) are dropped: they could not be sent for %.0f s",
                dropped.runs,
                time.monotonic() - dropped.at,
                extra=self._state.log_extra("stats_lost"),
            )

    async def _send_batches(self) -> bool:
        """Send them, oldest first; whether nothing is left."""
        while self._unsent:
            batch = self._unsent[0]
            if batch.sender is None:
                batch.sender = self._state.worker_id
            if batch.sender is None:
                return False
            age_s = time.monotonic() - batch.at
            try:
                await self._state.execute(statements.add_job_stats(batch.sender, batch.number, age_s, batch.stats))
            except ConnectorException as error:
                if passes_by_itself(error):
                    self._complain(error)
                    return False
                self._refuse(error)
            self._unsent.popleft()
        self._failing = False
        return True

    def _complain(self, error: ConnectorException) -> None:
        if not self._failing:
            self._failing = True
            logger.warning(
                "Numbers can't be sent now and are kept: %s", error, extra=self._state.log_extra("stats_error")
            )

    def _refuse(self, error: ConnectorException) -> None:
        # No reason to stop: jobs run without charts.
        if not self._refused:
            self._refused = True
            logger.error(
                "The database refuses this worker's numbers, charts will lack them: %s",
                error,
                extra=self._state.log_extra("stats_refused"),
            )

    async def _prune(self) -> None:
        """Delete a batch of old numbers, every hour until there are none left; any worker does."""
        if time.monotonic() < self._prune_at:
            return
        try:
            deleted = await self._state.execute(statements.prune_job_stats(KEPT_FOR, PRUNE_BATCH))
        except ConnectorException as error:
            if not passes_by_itself(error):
                self._refuse(error)
            deleted = 0
        if deleted < PRUNE_BATCH:
            self._prune_at = time.monotonic() + PRUNE_INTERVAL_S * random.uniform(0.8, 1.2)
