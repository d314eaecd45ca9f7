"""Keeps the worker's registration alive, and ends what runs when that fails."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.context import AbortReason
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker.troubles import Backoff, passes_by_itself

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.runner import Runner
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

# A renewal that failed is tried again sooner than the next one is due.
RETRY_S = 1.0
REGISTER_AGAIN_FIRST_S = 0.1
REGISTER_AGAIN_LIMIT_S = 5.0


class Heartbeat:
    """Without a renewal for `stalled_worker_timeout` a worker must take its jobs for rescued: others may run them."""

    def __init__(self, state: WorkerState, runner: Runner) -> None:
        self._state = state
        self._runner = runner
        self._interval_s = state.options.update_heartbeat_interval
        self._timeout_s = state.options.stalled_worker_timeout
        self._retry_s = min(RETRY_S, self._interval_s)
        # So that another connection can be tried before the time is over.
        self._answer_s = (self._timeout_s - self._interval_s) / 2

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        renewed_at = self._state.registered_at
        pause_s = self._interval_s
        while True:
            left_s = renewed_at + self._timeout_s - time.monotonic()
            await self._state.lost.wait(min(pause_s, max(left_s, 0)))
            self._state.lost.clear()
            sent_at = time.monotonic()
            match await self._renew(renewed_at + self._timeout_s - sent_at):
                case True:
                    # From before it was sent: the database's count of seconds began no earlier.
                    renewed_at, pause_s = sent_at, self._interval_s
                    continue
                case None if time.monotonic() - renewed_at < self._timeout_s:
                    pause_s = self._retry_s
                    continue
                case None:
                    reason = f"its heartbeat could not be renewed for {self._timeout_s:g} s"
                case _:
                    reason = "another worker has declared it lost"
            await self._start_anew(reason)
            renewed_at, pause_s = self._state.registered_at, self._interval_s

    async def _renew(self, left_s: float) -> bool | None:
        """Whether the registration is alive; None: no answer."""
        if self._state.worker_id is None:
            return False
        # Where nothing is left (a task has blocked the event loop) the database may still say that all is well.
        with anyio.move_on_after(max(left_s, self._retry_s)):
            try:
                return await self._state.execute(statements.heartbeat(self._state.worker_id), self._answer_s)
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                logger.warning(
                    "The heartbeat could not be renewed: %s", error, extra=self._state.log_extra("heartbeat_error")
                )
        return None

    async def _start_anew(self, reason: str) -> None:
        logger.error(
            "Worker %s is lost: %s. What it runs (%d) is stopped, and it registers again",
            self._state.options.worker_name,
            reason,
            self._runner.running,
            extra=self._state.log_extra("worker_lost", job_ids=[job.id for job in self._runner.jobs()]),
        )
        # Under its old id the jobs that it leaves would look alive; nothing is fetched until there is a new one.
        self._state.worker_id = None
        self._runner.abort_all(AbortReason.LOST)
        await self._register()
        logger.info("Registered again", extra=self._state.log_extra("worker_registered"))
        self._state.fetch.set()

    async def _register(self) -> None:
        backoff = Backoff(REGISTER_AGAIN_FIRST_S, REGISTER_AGAIN_LIMIT_S)
        while True:
            try:
                return await self._state.register()
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                pause_s = backoff.next_s()
                logger.warning(
                    "Registering again failed, next try in %.1f s: %s",
                    pause_s,
                    error,
                    extra=self._state.log_extra("register_error"),
                )
                await anyio.sleep(pause_s)
