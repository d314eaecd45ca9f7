"""Keeps the counts of workflows short, and tells when one has ended."""

from __future__ import annotations

import logging
import time
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

MAX_BATCH = 100
# What changed other than by an exchange of a worker: by hand, by a rescue, by a worker that died.
SWEEP_INTERVAL_S = 10.0
# Between two folds while jobs end all the time. Who reads adds up what is not folded: 50 ms of it cost nothing.
BUSY_INTERVAL_S = 0.05
# Another session is folding the same workflow: what it did not see is left to us.
HELD_INTERVAL_S = 0.02
# After so many folds in a row that left something, somebody holds workflows in an open transaction, or more of them
# change than one fold takes: from then on less often, and more at once.
LEFT_FOR_LONG = 50
LONG_HELD_INTERVAL_S = 0.5
LARGE_BATCH = 1000
# A fold that takes long, over many changes or dead entries, shall not be what the server does all the time.
PAUSE_PER_FOLD = 4


class Folder:
    """Soon after an exchange has ended jobs of workflows, and every 10 seconds.

    The exchange never waits for this, nor this for another session: what one leaves out the next one does.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        # Something changed that no fold has seen for sure.
        self._left = False
        # How many folds in a row left something.
        self._times_left = 0
        self._folding = anyio.Lock()
        self._closing = False

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await self._state.workflow_changed.wait(SWEEP_INTERVAL_S)
            # Before the fold: what ends while it looks wakes the next wait.
            self._state.workflow_changed.clear()
            self._left = True
            while self._left:
                began_at = time.monotonic()
                async with self._folding:
                    if self._closing:
                        # cut off in the middle of a fold, the connection would be closed, with a warning
                        return
                    self._left = await self._fold()
                took_s = time.monotonic() - began_at
                self._times_left = self._times_left + 1 if self._left else 0
                await anyio.sleep(max(self._interval_s(), PAUSE_PER_FOLD * took_s))

    def _interval_s(self) -> float:
        if not self._left:
            return BUSY_INTERVAL_S
        return HELD_INTERVAL_S if self._times_left < LEFT_FOR_LONG else LONG_HELD_INTERVAL_S

    async def fold_last(self) -> None:
        """When the worker stops: its last jobs may have been the last ones of their workflows."""
        self._closing = True
        async with self._folding:
            if self._left or self._state.workflow_changed.is_set():
                self._left = await self._fold()

    async def _fold(self) -> bool:
        """Returns whether there is more, or somebody else was at it."""
        try:
            batch = MAX_BATCH if self._times_left < LEFT_FOR_LONG else LARGE_BATCH
            return await self._state.execute(statements.fold_workflows(None, batch))
        except ConnectorException as error:
            if not passes_by_itself(error):
                raise
            logger.warning(
                "The counts of workflows can't be folded now: %s", error, extra=self._state.log_extra("fold_error")
            )
            return False
