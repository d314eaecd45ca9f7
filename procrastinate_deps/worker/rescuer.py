"""Takes back the jobs of lost workers, this one's or any other's."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker.troubles import passes_by_itself

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

MAX_BATCH = 1000
# Once soon after the start: a worker is often started because another one died.
FIRST_AFTER_S = 1.0


class Rescuer:
    """Looks every half of `stalled_worker_timeout`: a lost job starts again within 1.6 times that timeout."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        timeout_s = self._state.options.stalled_worker_timeout
        pause_s = min(FIRST_AFTER_S, timeout_s / 2)
        while True:
            # Spread, so that workers that started together don't look together.
            await anyio.sleep(pause_s * random.uniform(0.8, 1.2))
            pause_s = timeout_s / 2
            try:
                await self._rescue()
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                logger.warning(
                    "Lost workers can't be looked for now: %s", error, extra=self._state.log_extra("rescue_error")
                )

    async def _rescue(self) -> None:
        timeout_s = self._state.options.stalled_worker_timeout
        while True:
            rescued = await self._state.execute(
                statements.rescue_jobs(timeout_s, self._state.options.max_rescues, MAX_BATCH)
            )
            for each in rescued:
                logger.warning(
                    "Job %d was taken back from a lost worker and is now %s",
                    each.job_id,
                    each.status,
                    extra=self._state.log_extra("job_rescued", job_id=each.job_id, status=str(each.status)),
                )
            if len(rescued) < MAX_BATCH:
                break
        for name in await self._state.execute(statements.prune_workers(timeout_s)):
            logger.info("The lost worker %s was removed", name, extra=self._state.log_extra("worker_pruned"))
