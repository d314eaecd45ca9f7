"""Looks for damage that waits in the tables, and mends it."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker.troubles import passes_by_itself

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from procrastinate_deps.invariants import Swept
    from procrastinate_deps.statements import Statement
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

P = TypeVar("P", int, str)

# After each batch a pause as long as it took: jobs go first.
MIN_PAUSE_S = 0.02
# Of those that were repaired the log names so many.
NAMED = 20


class Sweeper:
    """Every `sweep_interval`, one worker of all: what others wait for, and can be looked at in small batches.

    That are the counters of blocked jobs, the locks, and the counts of unfinished workflows. In a healthy database it
    finds nothing; `check` looks at everything.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        interval_s = self._state.options.sweep_interval
        if not interval_s:
            return
        while True:
            # Spread, so that workers that started together don't ask together.
            await anyio.sleep(interval_s * random.uniform(0.8, 1.2))
            try:
                await self._sweep(interval_s)
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                logger.warning("Damage can't be looked for now: %s", error, extra=self._state.log_extra("sweep_error"))

    async def _sweep(self, interval_s: float) -> None:
        worker_id = self._state.worker_id
        if worker_id is None or not await self._state.execute(statements.begin_sweep(worker_id, 0.75 * interval_s)):
            return
        began_at = time.monotonic()
        repaired = await self._batches(statements.sweep_blocked, 0)
        repaired += await self._batches(statements.sweep_locks, "")
        repaired += await self._batches(statements.sweep_workflows, 0)
        logger.debug(
            "Looked for damage for %.1f s: %d repaired",
            time.monotonic() - began_at,
            repaired,
            extra=self._state.log_extra("swept", repaired=repaired),
        )

    async def _batches(self, statement: Callable[[P], Statement[Swept[P]]], start: P) -> int:
        repaired = 0
        after: P | None = start
        while after is not None:
            began_at = time.monotonic()
            batch = await self._state.execute(statement(after))
            after = batch.reached
            for invariant, ids in batch.repaired.items():
                repaired += len(ids)
                logger.warning(
                    "Repaired what broke the rule that %s: %d, as %s",
                    invariant,
                    len(ids),
                    ", ".join(map(str, ids[:NAMED])),
                    extra=self._state.log_extra("repaired", invariant=invariant, ids=ids[:NAMED]),
                )
            if after is not None:
                await anyio.sleep(max(time.monotonic() - began_at, MIN_PAUSE_S))
        return repaired
