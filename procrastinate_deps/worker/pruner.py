"""Deletes jobs that ended long ago."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.jobs import TERMINAL
from procrastinate_deps.worker.troubles import passes_by_itself

if TYPE_CHECKING:
    from datetime import datetime

    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

INTERVAL_S = 300.0
# Small, so that no lock is held for long. After each a pause as long as it took: jobs go first.
MAX_BATCH = 500
MIN_PAUSE_S = 0.05


class Pruner:
    """Every 5 minutes, where `prune_after` says so. Who comes while another worker deletes leaves it to that one."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        older_than_s = self._state.options.prune_after_s
        if older_than_s is None:
            return
        # Spread, so that workers that started together don't delete together.
        await anyio.sleep(INTERVAL_S * random.uniform(0.01, 0.2))
        while True:
            try:
                await self._prune(older_than_s)
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                logger.warning(
                    "Jobs that ended long ago can't be deleted now: %s",
                    error,
                    extra=self._state.log_extra("prune_error"),
                )
            await anyio.sleep(INTERVAL_S * random.uniform(0.8, 1.2))

    async def _prune(self, older_than_s: float) -> None:
        total = 0
        reached: datetime | None = None
        while True:
            began_at = time.monotonic()
            batch = await self._state.execute(
                statements.prune_jobs(older_than_s, TERMINAL, None, MAX_BATCH, reached, wait=False)
            )
            total += batch.deleted or 0
            reached = batch.reached
            if reached is None:
                break
            await anyio.sleep(max(time.monotonic() - began_at, MIN_PAUSE_S))
        if total:
            logger.info(
                "%d job(s) that ended more than %.1f hours ago were deleted",
                total,
                older_than_s / 3600,
                extra=self._state.log_extra("jobs_pruned", jobs=total),
            )
