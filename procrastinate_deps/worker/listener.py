"""Hears what the database announces."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker.troubles import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.runner import Runner
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

RECONNECT_FIRST_S = 0.1
RECONNECT_LIMIT_S = 5.0


class Listener:
    """While it is deaf, polling goes on."""

    def __init__(self, state: WorkerState, runner: Runner, look_for_aborts: Callable[[], None]) -> None:
        self._state = state
        self._runner = runner
        self._look_for_aborts = look_for_aborts
        self._backoff = Backoff(RECONNECT_FIRST_S, RECONNECT_LIMIT_S)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        if not self._state.options.listen_notify:
            task_status.started()
            return
        started = False
        while True:
            reason = "the connection was closed"
            try:
                async with self._state.connector.listen(self._state.connector.schema) as payloads:
                    self._backoff.reset()
                    if started:
                        logger.info("Listening again", extra=self._state.log_extra("listen_again"))
                        # What was announced meanwhile is known to nobody.
                        self._state.fetch.set()
                        self._look_for_aborts()
                    else:
                        task_status.started()
                        started = True
                    async for payload in payloads:
                        self._hear(payload)
            except ConnectorException as error:
                reason = str(error)
            # Spread, or every worker of a server that restarts would come back in the same moment.
            pause_s = self._backoff.next_s() * random.uniform(0.5, 1)
            logger.warning(
                "Not listening, new jobs are found by polling; next try in %.1f s: %s",
                pause_s,
                reason,
                extra=self._state.log_extra("listen_lost"),
            )
            if not started:
                task_status.started()
                started = True
            await anyio.sleep(pause_s)

    def _hear(self, payload: str) -> None:
        try:
            message = json.loads(payload)
        except ValueError:
            message = None
        match message:
            case {"type": "job_ready", "queue": str(queue)}:
                if self._state.serves(queue):
                    self._state.fetch.set()
            case {"type": "abort", "job_id": int(job_id), "worker_id": worker_id}:
                if worker_id == self._state.worker_id:
                    self._runner.abort([job_id])
            case _:  # of a newer version, or of someone else who uses the channel
                logger.debug("Unknown notification: %s", payload, extra=self._state.log_extra("unknown_notification"))
