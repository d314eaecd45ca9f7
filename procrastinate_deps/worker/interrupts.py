"""Stops the worker on SIGINT and SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """The first signal stops the worker gracefully, a second one at once."""

    def __init__(
        self, state: WorkerState, stop: Callable[[], None], stop_now: Callable[[signal.Signals], None]
    ) -> None:
        self._state = state
        self._stop = stop
        self._stop_now = stop_now

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        if not self._state.options.install_signal_handlers or not _can_be_handled():
            task_status.started()
            return
        with requests_to_stop() as requests:
            task_status.started()
            async for received, insistent in requests:
                if not insistent:
                    logger.info(
                        "%s: stopping, running jobs are waited for; another signal stops at once",
                        received.name,
                        extra=self._state.log_extra("shutdown_requested"),
                    )
                    self._stop()
                else:
                    logger.warning(
                        "%s again: stopping at once", received.name, extra=self._state.log_extra("shutdown_now")
                    )
                    self._stop_now(received)


@contextlib.contextmanager
def requests_to_stop() -> Iterator[AsyncIterator[tuple[signal.Signals, bool]]]:
    """The signals that come meanwhile, and of each whether it is one too many for a graceful stop.

    A hang-up never is: a shell may send one besides the terminal's own. It is left alone where someone ignores it
    (nohup) or handles it.
    """
    hangup = getattr(signal, "SIGHUP", None)
    taken = SIGNALS if hangup is None or signal.getsignal(hangup) != signal.SIG_DFL else (*SIGNALS, hangup)

    async def requests(signals: AsyncIterator[int]) -> AsyncIterator[tuple[signal.Signals, bool]]:
        asked = False
        async for each in signals:
            received = signal.Signals(each)
            if not asked or received is not hangup:
                yield received, asked
            asked = True

    with _handlers_restored(taken), anyio.open_signal_receiver(*taken) as signals:
        yield requests(signals)


def _can_be_handled() -> bool:
    # Windows' event loops have no signal handlers, and Python takes them from the main thread only.
    return os.name != "nt" and threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _handlers_restored(taken: Iterable[signal.Signals]) -> Iterator[None]:
    """Afterwards the handlers are those from before: the event loop's own, or those of the program around it."""
    before = {each: signal.getsignal(each) for each in taken}
    try:
        yield
    finally:
        for each, handler in before.items():
            if handler is not None:  # None: not installed from Python, and not restorable from it
                signal.signal(each, handler)
