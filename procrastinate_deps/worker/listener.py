"""Hears what the database announces."""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker.troubles import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.runner import Runner
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

RECONNECT_FIRST_S = 0.1
RECONNECT_LIMIT_S = 5.0
# After so long without a notification the worker sends one to itself ...
PROBE_AFTER_S = 60.0
# ... and expects it within this time.
ECHO_WITHIN_S = 10.0
# An event loop that was blocked meanwhile may have it, and not know yet.
ECHO_GRACE_S = 1.0


class Listener:
    """While it is deaf, polling goes on.

    Whether it hears is tried out, with a notification sent by the way of all statements: a pooler that gives each
    transaction another session takes LISTEN without an error and never delivers anything, and so does a listen_dsn to
    another database; and a peer that vanished without a word can't be told from one that has nothing to say.
    """

    def __init__(self, state: WorkerState, runner: Runner, look_for_aborts: Callable[[], None]) -> None:
        self._state = state
        self._runner = runner
        self._look_for_aborts = look_for_aborts
        self._backoff = Backoff(RECONNECT_FIRST_S, RECONNECT_LIMIT_S)
        self._heard_at = 0.0
        self._probe = ""
        self._echo = anyio.Event()
        self._deaf = False

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        if not self._state.options.listen_notify:
            task_status.started()
            return
        started = False
        while True:
            try:
                async with self._state.connector.listen(
                    self._state.connector.schema, self._state.options.listen_dsn
                ) as payloads:
                    self._backoff.reset()
                    if started:
                        logger.info("Listening again", extra=self._state.log_extra("listen_again"))
                        # What was announced meanwhile is known to nobody.
                        self._state.fetch.set()
                        self._look_for_aborts()
                    else:
                        task_status.started()
                        started = True
                    reason = await self._hear_all(payloads)
            except ConnectorException as error:
                reason = str(error)
            pause_s = self._backoff.next_s()
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

    async def _hear_all(self, payloads: AsyncIterable[str]) -> str:
        """Hear until there is a reason to connect again; returns it."""
        reason = "the connection was closed"

        async def hear() -> None:
            nonlocal reason
            try:
                async for payload in payloads:
                    self._hear(payload)
            except ConnectorException as error:
                reason = str(error)
            group.cancel_scope.cancel()

        async def probe() -> None:
            nonlocal reason
            await self._until_deaf()
            reason = f"it was silent, and heard nothing of what was sent to try it within {ECHO_WITHIN_S:g} s"
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(hear)
            group.start_soon(probe)
        return reason

    def _hear(self, payload: str) -> None:
        self._heard_at = time.monotonic()
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            message = None
        match message:
            case {"type": "job_ready", "queue": str(queue)}:
                if self._state.serves(queue):
                    self._state.fetch.set()
            case {"type": "abort", "job_id": int(job_id), "worker_id": worker_id}:
                if worker_id == self._state.worker_id:
                    self._runner.abort([job_id])
            case {"type": "probe", "id": probe}:
                if probe == self._probe:
                    self._echo.set()
            case _:  # of a newer version, or of someone else who uses the channel
                logger.debug("Unknown notification: %s", payload, extra=self._state.log_extra("unknown_notification"))

    async def _until_deaf(self) -> None:
        """Try from time to time; return when a connection by which something was heard is silent."""
        hears = False
        while True:
            match await self._hears_itself():
                case True:
                    hears = True
                    self._say_whether_deaf(False)
                case False if hears:
                    return
                case False:
                    self._say_whether_deaf(True)
            self._heard_at = time.monotonic()
            # Spread, so that workers that started together don't try together.
            silence_s = PROBE_AFTER_S * random.uniform(0.8, 1.2)
            while (left_s := self._heard_at + silence_s - time.monotonic()) > 0:  # noqa: ASYNC110 - for a time of silence
                await anyio.sleep(left_s)

    async def _hears_itself(self) -> bool | None:
        """None: it can't be tried, and whoever sends the statements says why."""
        self._probe = uuid.uuid4().hex
        self._echo = anyio.Event()
        payload = json.dumps({"type": "probe", "id": self._probe})
        try:
            await self._state.execute(statements.notify(self._state.connector.schema, payload))
        except ConnectorException as error:
            logger.debug("Listening can't be tried: %s", error, extra=self._state.log_extra("listen_untried"))
            return None
        for within_s in (ECHO_WITHIN_S, ECHO_GRACE_S):
            with anyio.move_on_after(within_s):
                await self._echo.wait()
        return self._echo.is_set()

    def _say_whether_deaf(self, deaf: bool) -> None:
        if deaf and not self._deaf:
            logger.warning(
                "This worker does not hear what is announced, and finds new jobs by polling, every %g s: LISTEN goes "
                "through a pooler that gives each transaction another session (PgBouncer in transaction mode), or to "
                "another database. Give listen_dsn (--listen-dsn, PROCRASTINATE_DEPS_LISTEN_DSN) a direct connection "
                "to this one, or turn listening off (--no-listen-notify)",
                self._state.options.fetch_job_polling_interval,
                extra=self._state.log_extra("listen_deaf"),
            )
        elif self._deaf and not deaf:
            logger.info("This worker hears now what is announced", extra=self._state.log_extra("listen_heard"))
        self._deaf = deaf
