"""Waiting in async code."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any

import anyio

from procrastinate_deps.exceptions import AppNotOpen, ConnectorException, ProcrastinateException
from procrastinate_deps.troubles import Backoff, passes_by_itself
from procrastinate_deps.waiting.board import (
    ANSWER_WITHIN_S,
    FAREWELL_S,
    MIN_LOOK_S,
    RECONNECT_FIRST_S,
    RECONNECT_LIMIT_S,
    Board,
    Round,
    Target,
    Wait,
    no_answer,
)

if TYPE_CHECKING:
    from procrastinate_deps.connectors.base import Listener
    from procrastinate_deps.connectors.pair import ConnectorPair
    from procrastinate_deps.statements import Statement

logger = logging.getLogger(__name__)


class _Signal:
    """Wakes one waiter, again and again."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        with anyio.move_on_after(timeout_s):
            await self._event.wait()
        self._event = anyio.Event()


class Awaiting:
    """All waits of an app in async code: one connection that listens, one statement at a time that looks.

    Both are served by one of those who wait, the first that came; when it leaves, another one goes on. So nothing runs
    that nobody waits for, and nothing has to be started or stopped with the app. The connection passes from one to the
    next, and the last one closes it.
    """

    def __init__(self, connectors: ConnectorPair) -> None:
        self._connectors = connectors
        self._board = Board()
        self._serving: Wait | None = None
        # There is something to look at, sooner than was known.
        self._news = _Signal()
        self._looking = False
        self._looked = _Signal()
        # Whoever serves is about to leave: no new look is begun.
        self._leaving = False
        self._listener: Listener | None = None
        self._connection = contextlib.AsyncExitStack()
        self._reconnect = Backoff(RECONNECT_FIRST_S, RECONNECT_LIMIT_S)
        self._said: set[str] = set()

    async def wait(self, target: Target, timeout_s: float | None) -> Wait:
        """Wait until `over`, or the time is."""
        signal = _Signal()
        wait = Wait(target, signal.set)
        began_at = anyio.current_time()
        deadline = math.inf if timeout_s is None else began_at + timeout_s
        self._board.add(wait)
        self._news.set()
        try:
            while not wait.over:
                # A short time is no reason not to have looked at all.
                until = deadline if wait.looked else max(deadline, began_at + MIN_LOOK_S)
                if anyio.current_time() >= until:
                    break
                if self._serving is None:
                    self._serving = wait
                    await self._serve(wait, signal, deadline, began_at)
                    break
                await signal.wait(until - anyio.current_time())
        finally:
            self._board.remove(wait)
            if self._serving is wait:
                self._serving = None
                self._board.wake_one()
            if not len(self._board):
                with anyio.move_on_after(FAREWELL_S, shield=True):
                    await self._leave()
        return wait

    async def _serve(self, wait: Wait, signal: _Signal, deadline: float, began_at: float) -> None:
        """Listen and look, for all who wait, until this wait is over or its time is."""
        self._leaving = False
        scope = anyio.CancelScope(shield=True)

        async def work() -> None:
            with scope:
                if self._listener is None:
                    # Most of what has ended already needs no connection.
                    await self._look_if_due()
                    if wait.over:
                        return
                async with anyio.create_task_group() as group:
                    group.start_soon(self._hear)
                    group.start_soon(self._look)

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            try:
                while not wait.over:
                    until = deadline if wait.looked else max(deadline, began_at + MIN_LOOK_S)
                    if (left_s := until - anyio.current_time()) <= 0:
                        break
                    await signal.wait(left_s)
            finally:
                # A statement that is cut off costs its connection, and others wait for its answer.
                self._leaving = True
                with anyio.move_on_after(FAREWELL_S, shield=True):
                    while self._looking:
                        await self._looked.wait(FAREWELL_S)
                scope.cancel()

    async def _look(self) -> None:
        while True:
            if not await self._look_if_due():
                await self._news.wait(self._board.due_in_s())

    async def _look_if_due(self) -> bool:
        if self._leaving or self._board.due_in_s() > 0:
            return False
        self._looking = True
        try:
            await self._look_once()
        finally:
            self._looking = False
            self._looked.set()
        return True

    async def _look_once(self) -> None:
        try:
            await self._run(self._board.round())
            self._said.discard("look")
        except ProcrastinateException as error:
            if not (isinstance(error, ConnectorException) and passes_by_itself(error)):
                self._board.failed(error)
                return
            pause_s = self._board.failed_for_now()
            self._say("look", "What is waited for can't be looked at, next try in %.1f s: %s", pause_s, error)

    async def _run(self, steps: Round) -> None:
        try:
            statement = next(steps)
            while True:
                statement = steps.send(await self._execute(statement))
        except StopIteration:
            return
        finally:
            steps.close()

    async def _execute(self, statement: Statement[Any]) -> Any:
        with anyio.move_on_after(ANSWER_WITHIN_S):
            return await self._connectors.execute_async(statement, None)
        raise no_answer(statement.name)

    async def _hear(self) -> None:
        while True:
            try:
                if self._listener is None:
                    self._listener = await self._connection.enter_async_context(self._connectors.listen_async())
                    self._reconnect.reset()
                    self._said.discard("listen")
                    # What was announced before is known to nobody.
                    self._board.look_at_all()
                    self._news.set()
                async for payload in self._listener:
                    if self._board.hear(payload):
                        self._news.set()
                reason: object = "the connection was closed"
            except ConnectorException as error:
                reason = error
            await self._stop_listening()
            pause_s = self._reconnect.next_s()
            self._say("listen", "Not listening, ends are found by polling; next try in %.1f s: %s", pause_s, reason)
            await anyio.sleep(pause_s)

    async def _stop_listening(self) -> None:
        self._listener = None
        connection, self._connection = self._connection, contextlib.AsyncExitStack()
        await connection.aclose()

    async def _leave(self) -> None:
        """Nobody waits any more."""
        try:
            await self._stop_listening()
            await self._run(self._board.farewell())
        except (ConnectorException, AppNotOpen) as error:
            # What was asked for ends by itself.
            logger.debug("Waiting ended without a farewell: %s", error, extra={"action": "wait_farewell"})

    def _say(self, about: str, message: str, *values: object) -> None:
        if about not in self._said:
            self._said.add(about)
            logger.warning(message, *values, extra={"action": f"wait_{about}_error"})
