"""Stops the worker when its supervisor says so, or is no more."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from anyio import TASK_STATUS_IGNORED

from procrastinate_deps.worker.line import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)


class Orders:
    """An order counts once, also where the signal behind it has reached this process too: to stop twice is to stop."""

    def __init__(
        self, state: WorkerState, stop: Callable[[], None], stop_now: Callable[[signal.Signals], None]
    ) -> None:
        self._state = state
        self._stop = stop
        self._stop_now = stop_now

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        line = self._state.options.supervisor
        if line is None:
            return
        async for order in line.orders():
            match order:
                case Order.STOP:
                    logger.debug("Ordered to stop", extra=self._state.log_extra("shutdown_requested"))
                    self._stop()
                case Order.STOP_NOW:
                    logger.debug("Ordered to stop at once", extra=self._state.log_extra("shutdown_now"))
                    self._stop_now(signal.SIGTERM)
        logger.warning(
            "The supervisor is gone: stopping, running jobs are waited for",
            extra=self._state.log_extra("supervisor_lost"),
        )
        self._stop()
