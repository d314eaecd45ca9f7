"""How one loop of the worker wakes another."""

from __future__ import annotations

import anyio


class Wakeup:
    """An event for one waiter, who waits again and again.

    The waiter clears it BEFORE it looks for work: what is set while it looks then wakes it at once, and is not lost.
    """

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._event = anyio.Event()
        # Beside the event's own: most calls of `set` find it set, once for each job that ends.
        self._is_set = False

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            self._event.set()

    def is_set(self) -> bool:
        return self._is_set

    def clear(self) -> None:
        if self._is_set:
            self._is_set = False
            self._event = anyio.Event()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set, at most `timeout_s`; returns whether it is."""
        event = self._event
        with anyio.move_on_after(timeout_s):
            await event.wait()
        return event.is_set()
