"""Waiting in code that is not async: the same as `awaiting`, in threads."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from procrastinate_deps.exceptions import AppNotOpen, ConnectorException, ProcrastinateException
from procrastinate_deps.troubles import Backoff, passes_by_itself
from procrastinate_deps.waiting.board import (
    MIN_LOOK_S,
    RECONNECT_FIRST_S,
    RECONNECT_LIMIT_S,
    Board,
    Round,
    Target,
    Wait,
)

if TYPE_CHECKING:
    from procrastinate_deps.connectors.base import SyncListener
    from procrastinate_deps.connectors.pair import ConnectorPair

logger = logging.getLogger(__name__)

# An interrupt of a thread that waits for ever would be seen by nobody, on some systems.
MAX_PAUSE_S = 60.0


class Blocking:
    """All waits of an app in threads: one of those threads serves them all, see `Awaiting`.

    The lock guards what the threads share. It is never held while anybody waits.
    """

    def __init__(self, connectors: ConnectorPair) -> None:
        self._connectors = connectors
        self._lock = threading.Lock()
        self._board = Board()
        self._serving: Wait | None = None
        self._news = threading.Event()
        self._listener: SyncListener | None = None
        self._reconnect = Backoff(RECONNECT_FIRST_S, RECONNECT_LIMIT_S)
        self._reconnect_at = 0.0
        self._said: set[str] = set()

    def wait(self, target: Target, timeout_s: float | None) -> Wait:
        """Wait until `over`, or the time is."""
        signal = threading.Event()
        wait = Wait(target, signal.set)
        began_at = time.monotonic()
        deadline = math.inf if timeout_s is None else began_at + timeout_s
        with self._lock:
            self._board.add(wait)
        self._wake_who_serves()
        try:
            while not wait.over:
                # A short time is no reason not to have looked at all.
                until = deadline if wait.looked else max(deadline, began_at + MIN_LOOK_S)
                left_s = until - time.monotonic()
                if left_s <= 0:
                    break
                with self._lock:
                    if self._serving is None:
                        self._serving = wait
                if self._serving is wait:
                    self._serve_once(left_s)
                else:
                    signal.wait(min(left_s, MAX_PAUSE_S))
                    signal.clear()
        finally:
            self._end(wait)
        return wait

    def _end(self, wait: Wait) -> None:
        with self._lock:
            self._board.remove(wait)
            if self._serving is wait:
                self._serving = None
                self._board.wake_one()
            last = not len(self._board)
            listener = self._listener if last else None
            if last:
                self._listener = None
        if listener is not None:
            listener.close()
        if last:
            try:
                self._run(self._board.farewell())
            except (ConnectorException, AppNotOpen) as error:
                # What was asked for ends by itself.
                logger.debug("Waiting ended without a farewell: %s", error, extra={"action": "wait_farewell"})

    def _wake_who_serves(self) -> None:
        self._news.set()
        listener = self._listener
        if listener is not None:
            listener.wake()

    def _serve_once(self, at_most_s: float) -> None:
        """Look at what is due; where nothing is, hear what is announced, at most for so long."""
        self._news.clear()
        with self._lock:
            due_in_s = self._board.due_in_s()
        if due_in_s <= 0:
            self._look()
            return
        if self._listen():
            return
        pause_s = min(due_in_s, at_most_s, MAX_PAUSE_S)
        listener = self._listener
        if listener is None:
            self._news.wait(min(pause_s, max(self._reconnect_at - time.monotonic(), 0)))
            return
        try:
            payloads = listener.wait(pause_s)
        except ConnectorException as error:
            self._stop_listening(error)
            return
        with self._lock:
            for payload in payloads:
                self._board.hear(payload)

    def _look(self) -> None:
        try:
            self._run(self._board.round())
            self._said.discard("look")
        except ProcrastinateException as error:
            with self._lock:
                if not (isinstance(error, ConnectorException) and passes_by_itself(error)):
                    self._board.failed(error)
                    return
                pause_s = self._board.failed_for_now()
            self._say("look", "What is waited for can't be looked at, next try in %.1f s: %s", pause_s, error)

    def _run(self, steps: Round) -> None:
        answer: Any = None
        try:
            while True:
                with self._lock:
                    statement = steps.send(answer)
                answer = self._connectors.execute(statement, None)
        except StopIteration:
            return
        finally:
            with self._lock:
                steps.close()

    def _listen(self) -> bool:
        """See to it that there is a connection that listens; whether there is one since now."""
        if self._listener is not None or time.monotonic() < self._reconnect_at:
            return False
        try:
            listener = self._connectors.listen()
        except ConnectorException as error:
            self._stop_listening(error)
            return False
        self._said.discard("listen")
        self._reconnect.reset()
        with self._lock:
            self._listener = listener
            # What was announced before is known to nobody.
            self._board.look_at_all()
        return True

    def _stop_listening(self, error: ConnectorException) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        pause_s = self._reconnect.next_s()
        self._reconnect_at = time.monotonic() + pause_s
        self._say("listen", "Not listening, ends are found by polling; next try in %.1f s: %s", pause_s, error)

    def _say(self, about: str, message: str, *values: object) -> None:
        if about not in self._said:
            self._said.add(about)
            logger.warning(message, *values, extra={"action": f"wait_{about}_error"})
