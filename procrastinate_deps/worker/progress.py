"""Stores how far running jobs have come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.jsontext import storable_text
from procrastinate_deps.worker.troubles import FAREWELL_S, Backoff, passes_by_itself
from procrastinate_deps.worker.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Collection

    from anyio.abc import TaskStatus

    from procrastinate_deps.jobs import Job
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S = 0.5
# Many a task tells something last and returns: its end goes first, and finds its row held by nobody.
GATHER_S = 0.05
RETRY_LIMIT_S = 10.0
MAX_BATCH = 1000
# Without a database: of so many jobs the last report is kept, then the oldest go.
MAX_UNSENT = 10_000

_Report: TypeAlias = tuple[float, float | None, str | None]


class ProgressWriter:
    """Of each job the last report, all in one statement, twice a second at most; nothing waits for it.

    What a run has told before it ended is written after its end, too: half a second later at the latest.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        # Reports come from threads, too.
        self._lock = threading.Lock()
        self._unsent: dict[tuple[int, int], _Report] = {}
        self._told = Wakeup()
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._woken = False
        self._retry = Backoff(WRITE_INTERVAL_S, RETRY_LIMIT_S)
        self._failing = self._refused = False

    def report(self, job: Job, done: float, total: float | None, message: str | None) -> None:
        """Take a report of a run. Any thread may."""
        with self._lock:
            self._unsent[job.id, job.claim] = (done, total, message)
            self._forget_the_oldest()
            woken, self._woken = self._woken, True
        if woken or self._home is None:
            return
        thread, loop = self._home
        if thread == threading.get_ident():
            self._told.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the thread was abandoned
                loop.call_soon_threadsafe(self._told.set)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        self._home = threading.get_ident(), asyncio.get_running_loop()
        task_status.started()
        try:
            while True:
                await self._told.wait()
                await anyio.sleep(GATHER_S)
                written = await self._write_all()
                await anyio.sleep((WRITE_INTERVAL_S if written else self._retry.next_s()) - GATHER_S)
        finally:
            with anyio.move_on_after(FAREWELL_S, shield=True):
                await self._write_all()

    async def _write_all(self) -> bool:
        """Write all that was reported; False: it is to be tried again."""
        with self._lock:
            reports, self._unsent = self._unsent, {}
            self._woken = False
            self._told.clear()
        # Two claims of one job in a statement would be mixed up; the older one shows to nobody.
        newest = {job_id: (claim, *reports[job_id, claim]) for job_id, claim in sorted(reports)}
        rows = [
            (job_id, claim, float(done), None if total is None else float(total), message and storable_text(message))
            for job_id, (claim, done, total, message) in newest.items()
        ]
        for start in range(0, len(rows), MAX_BATCH):
            batch = rows[start : start + MAX_BATCH]
            try:
                held = await self._state.execute(statements.set_progress(batch))
            except anyio.get_cancelled_exc_class():
                self._keep(reports, [row[0] for row in rows[start:]])
                raise
            except ConnectorException as error:
                if passes_by_itself(error):
                    self._keep(reports, [row[0] for row in rows[start:]])
                    self._complain(error)
                    return False
                self._refuse(error)
                held = []
            if held:
                self._keep(reports, held)
        self._failing = False
        self._retry.reset()
        return True

    def _keep(self, reports: dict[tuple[int, int], _Report], job_ids: Collection[int]) -> None:
        """Write these again, where nothing newer was reported."""
        with self._lock:
            kept = {run: report for run, report in reports.items() if run[0] in job_ids}
            self._unsent = {**kept, **self._unsent}
            self._forget_the_oldest()
            self._woken = True
        self._told.set()

    def _forget_the_oldest(self) -> None:
        while len(self._unsent) > MAX_UNSENT:
            del self._unsent[next(iter(self._unsent))]

    def _complain(self, error: ConnectorException) -> None:
        if not self._failing:
            self._failing = True
            logger.warning(
                "The progress of jobs can't be stored now, the last of each is kept: %s",
                error,
                extra=self._state.log_extra("progress_error"),
            )

    def _refuse(self, error: ConnectorException) -> None:
        # No reason to stop: jobs run without showing how far they are.
        if not self._refused:
            self._refused = True
            logger.error(
                "The database refuses the progress of this worker's jobs: %s",
                error,
                extra=self._state.log_extra("progress_refused"),
            )
