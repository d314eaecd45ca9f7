"""Fetches jobs into free slots."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException, WorkerNotRegistered
from procrastinate_deps.worker.troubles import Backoff, passes_by_itself

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.finisher import Finisher
    from procrastinate_deps.worker.runner import Runner
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

# A job that could run now but for a row that someone holds for a moment.
HELD_RETRY_FIRST_S = 0.01
ERROR_RETRY_FIRST_S = 0.1
ERROR_RETRY_LIMIT_S = 5.0


class Fetcher:
    def __init__(self, state: WorkerState, runner: Runner, finisher: Finisher, stop: Callable[[], None]) -> None:
        self._state = state
        self._runner = runner
        self._finisher = finisher
        self._stop = stop
        self._held = Backoff(HELD_RETRY_FIRST_S, state.options.fetch_job_polling_interval)
        self._errors = Backoff(ERROR_RETRY_FIRST_S, ERROR_RETRY_LIMIT_S)
        self.sleeping = False

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while not self._state.stopping:
            # Before anything is looked at: a job that is announced from here on wakes the wait below.
            self._state.fetch.clear()
            try:
                pause_s = await self._step()
            except WorkerNotRegistered:
                # The heartbeat registers again, and then sets `fetch`.
                self._state.lost.set()
                pause_s = self._errors.next_s()
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                pause_s = self._errors.next_s()
                logger.warning(
                    "Fetching failed, next try in %.1f s: %s",
                    pause_s,
                    error,
                    extra=self._state.log_extra("fetch_error"),
                )
            else:
                self._errors.reset()
            if pause_s is None or pause_s > 0:
                self.sleeping = True
                await self._state.fetch.wait(pause_s)
                self.sleeping = False

    async def _step(self) -> float | None:
        """Fetch once; returns how many seconds to wait for a reason to fetch again, None for as long as it takes."""
        state, free = self._state, self._runner.free
        if state.worker_id is None or free <= 0 or self._finisher.congested:
            # Whatever ends that sets `fetch`.
            state.more_to_fetch = True
            return None
        worker_id = state.worker_id
        nothing_pending = self._runner.running == 0 and self._finisher.pending == 0
        with self._runner.expecting_jobs():
            jobs = await state.execute(statements.fetch_jobs(state.options.queue_names, worker_id, free))
            if state.stopping or state.worker_id != worker_id:
                self._runner.give_back(jobs)
                return 0
            state.more_to_fetch = len(jobs) == free
            self._runner.start(jobs)
        if state.more_to_fetch:
            return 0
        due_s = await state.execute(statements.next_due(state.options.queue_names))
        if jobs or due_s != 0:
            self._held.reset()
        if not state.options.wait and nothing_pending and not jobs and due_s != 0:
            self._stop()
            return 0
        interval_s = state.options.fetch_job_polling_interval
        if due_s is None:
            return interval_s
        return self._held.next_s() if due_s == 0 else min(due_s, interval_s)
