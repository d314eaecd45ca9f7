"""Single keys of a terminal, without Enter and without an echo."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Keys:
    """What is typed, a key at a time. Where the input is no terminal nothing is."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def wait(self, timeout_s: float) -> str:
        """The next key; "" when there was none for so long."""
        if self._descriptor is None:
            time.sleep(timeout_s)
            return ""
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        if not ready:
            return ""
        # a terminal that is gone reads as nothing: who watched has left
        return os.read(self._descriptor, 32).decode(errors="replace") or "q"


@contextlib.contextmanager
def reading_keys() -> Iterator[Keys]:
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield Keys(None)
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
