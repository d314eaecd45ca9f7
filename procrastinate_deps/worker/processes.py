"""Several worker processes under a supervisor: it starts them, replaces those that die, and stops them all."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps.worker.interrupts import requests_to_stop
from procrastinate_deps.worker.line import ENVIRONMENT, Order, Report, receive
from procrastinate_deps.worker.troubles import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from anyio.abc import Process, TaskGroup, TaskStatus

logger = logging.getLogger(__name__)

# Before a process that died is replaced, at most: twice as long each time that one dies young.
REPLACE_FIRST_S = 0.5
REPLACE_LIMIT_S = 30.0
# One that has served for so long didn't die of how it starts.
GROWN_UP_S = 10.0
# What a worker that was told to stop at once may take; then it is killed.
KILL_AFTER_S = 5.0
# With these a command ends that can't work as it was told to: an error in one line, and wrong usage.
REFUSALS = (1, 2)


@dataclass(eq=False)
class Child:
    """One worker process."""

    number: int
    process: Process
    sock: socket.socket
    serving_since: float = math.inf
    # Once it has nothing more to do it ends, and is not replaced.
    one_shot: bool = False
    # Told to end because another one with new code shall take its place.
    outdated: bool = False

    @property
    def served(self) -> bool:
        return self.serving_since < math.inf

    def order(self, order: Order) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            self.sock.send(order.value)
        if not self.served:
            # It may not listen yet. Where it does, the signal and the order count as one.
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()

    def __str__(self) -> str:
        return f"worker process {self.number} (pid {self.process.pid})"


class Supervisor:
    """Keeps worker processes alive until it is told to stop.

    Each is the same command in an interpreter of its own, in a session of its own, so that a terminal's signals reach
    the supervisor alone. The first one shows that the command works, then the others follow.

    Parameters
    ----------
    command:
        The program and its arguments. It finds a `Line` in its environment and its stdin.
    processes:
        How many of them.
    changes:
        Gives the names of files whenever code has changed; then all processes are replaced.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int = 1,
        *,
        changes: Callable[[], AsyncIterator[str]] | None = None,
    ) -> None:
        self._command = command
        self._processes = processes
        self._changes = changes
        self._children: set[Child] = set()
        self._status = 0
        self._stopping = False
        self._insistent: signal.Signals | None = None
        # Set when a process serves, or when there is no use in waiting for that.
        self._proven = anyio.Event()
        # Set, and replaced by another, whenever a pause should end.
        self._news = anyio.Event()

    async def run(self) -> int:
        """Return the exit status for the whole: 0, that of a first process that refused to start, 1 when a process
        died while all were stopping, or the negative number of the signal that had to end one.
        """
        with _anonymous_file() as lock_file:
            async with anyio.create_task_group() as group:
                await group.start(self._hear_signals, group)
                if self._changes is not None:
                    group.start_soon(self._watch, self._changes)
                async with anyio.create_task_group() as places:
                    for number in range(1, self._processes + 1):
                        places.start_soon(self._keep, number, lock_file.fileno())
                group.cancel_scope.cancel()
        return self._status

    # What it is told

    async def _hear_signals(self, group: TaskGroup, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        with requests_to_stop() as requests:
            task_status.started()
            async for received, insistent in requests:
                if not insistent:
                    logger.info(
                        "%s: stopping, running jobs are waited for; another signal stops at once",
                        received.name,
                        extra={"action": "shutdown_requested", "pids": self._pids()},
                    )
                    self._stop()
                elif self._insistent is None:
                    logger.warning("%s again: stopping at once", received.name, extra={"action": "shutdown_now"})
                    self._insistent = received
                    self._order_all(Order.STOP_NOW)
                    group.start_soon(self._kill_late)

    async def _kill_late(self) -> None:
        await anyio.sleep(KILL_AFTER_S)
        for child in self._children:
            logger.warning("%s does not stop and is killed", child, extra=_extra("kill_process", child))
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()

    async def _watch(self, changes: Callable[[], AsyncIterator[str]]) -> None:
        async for files in changes():
            logger.info("%s changed: replacing the workers", files, extra={"action": "reload", "files": files})
            for child in self._children:
                if not child.outdated:
                    child.outdated = True
                    child.order(Order.STOP)
            self._tell_news()

    def _stop(self) -> None:
        self._stopping = True
        self._order_all(Order.STOP)
        self._proven.set()
        self._tell_news()

    def _order_all(self, order: Order) -> None:
        for child in self._children:
            child.order(order)

    def _tell_news(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    # What it keeps

    async def _keep(self, number: int, lock_file: int) -> None:
        """See to it that there is a process with this number."""
        if number > 1:
            await self._proven.wait()
        backoff = Backoff(REPLACE_FIRST_S, REPLACE_LIMIT_S)
        while not self._stopping:
            news = self._news
            try:
                child = await self._start(number, lock_file)
            except OSError as error:
                if not self._proven.is_set():
                    raise
                pause_s: float | None = backoff.next_s()
                logger.error(
                    "Worker process %d can't be started, next try in %.1f s: %s",
                    number,
                    pause_s,
                    error,
                    extra={"action": "start_process_error", "number": number},
                )
            else:
                pause_s = self._pause_after(child, await self._end_of(child), backoff)
            if pause_s is None:
                break
            with anyio.move_on_after(pause_s):
                await news.wait()
        self._proven.set()

    async def _start(self, number: int, lock_file: int) -> Child:
        told = {"number": number if self._processes > 1 else None, "lock_file": lock_file}
        ours, theirs = socket.socketpair()
        try:
            process = await anyio.open_process(
                self._command,
                stdin=theirs.fileno(),
                stdout=None,
                stderr=None,
                env={**os.environ, ENVIRONMENT: json.dumps(told)},
                start_new_session=True,
                pass_fds=[lock_file],
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        child = Child(number, process, ours)
        logger.debug("%s starts", child, extra=_extra("start_process", child))
        return child

    async def _end_of(self, child: Child) -> int:
        """Its exit status, negative for a signal."""
        self._children.add(child)
        if self._stopping:
            child.order(Order.STOP)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, child)
                status = await child.process.wait()
                group.cancel_scope.cancel()
            with contextlib.suppress(OSError):
                if last_words := child.sock.recv(1):
                    self._hear(child, last_words)
        except anyio.get_cancelled_exc_class():
            # Something of ours failed: without a supervisor workers end, but gracefully.
            child.order(Order.STOP)
            with anyio.CancelScope(shield=True):
                await child.process.wait()
            raise
        finally:
            self._children.discard(child)
            child.sock.close()
        return status

    async def _listen(self, child: Child) -> None:
        while said := await receive(child.sock):
            self._hear(child, said)

    def _hear(self, child: Child, said: bytes) -> None:
        child.one_shot = Report(said) is Report.SERVES_ONCE
        child.serving_since = time.monotonic()
        self._proven.set()

    def _pause_after(self, child: Child, status: int, backoff: Backoff) -> float | None:
        """What follows from the end of a process: how long to wait before another takes its place, None for never."""
        extra = _extra("process_ended", child, status=status)
        if self._stopping:
            self._end_while_stopping(child, status)
            return None
        if child.outdated:
            backoff.reset()
            return 0
        if status == 0 and child.one_shot:
            logger.debug("%s is done", child, extra=extra)
            return None
        if status in REFUSALS and not self._proven.is_set():
            # Its own words say why.
            self._status = status
            self._stop()
            return None
        if status in REFUSALS and not child.served and self._changes is not None:
            logger.error("%s could not start; waiting for a change of the code", child, extra=extra)
            return math.inf
        if time.monotonic() - child.serving_since >= GROWN_UP_S:
            backoff.reset()
        pause_s = backoff.next_s()
        level = logging.ERROR if status else logging.WARNING
        logger.log(level, "%s %s; another starts in %.1f s", child, _how(status), pause_s, extra=extra)
        return pause_s

    def _end_while_stopping(self, child: Child, status: int) -> None:
        extra = _extra("process_ended", child, status=status)
        if status == 0 or (status == -signal.SIGTERM and not child.served):
            logger.debug("%s has stopped", child, extra=extra)
        elif self._insistent is not None and status in (-signal.SIGTERM, -signal.SIGKILL):
            self._status = -self._insistent
        else:
            logger.error("%s %s while it was stopping", child, _how(status), extra=extra)
            self._status = self._status or 1

    def _pids(self) -> list[int]:
        return sorted(child.process.pid for child in self._children)


def _anonymous_file() -> IO[bytes]:
    # a container may have no folder that can be written to
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("log_lock"), "wb")
    return tempfile.TemporaryFile()


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-status}"


def _extra(action: str, child: Child, **more: object) -> dict[str, object]:
    return {"action": action, "number": child.number, "pid": child.process.pid, **more}
