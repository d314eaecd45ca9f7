"""As the worker's loops know it; see `procrastinate_deps.troubles`."""

from __future__ import annotations

import contextlib
import logging
import traceback
from typing import TYPE_CHECKING

from procrastinate_deps.troubles import READ_ONLY, Backoff, passes_by_itself

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FAREWELL_S", "READ_ONLY", "Backoff", "passes_by_itself", "shown_on_stderr"]

# What each of the last words of a worker that stops may take: to record the jobs that it put back, its numbers, and to
# leave. A statement that is cut off costs its connection, with a warning of psycopg's, so a busy machine must not be
# taken for a database that has vanished.
FAREWELL_S = 3.0


@contextlib.contextmanager
def shown_on_stderr() -> Iterator[None]:
    """What a logging handler raises is shown as `logging` shows it, and keeps no job and no worker from ending."""
    try:
        yield
    except Exception:  # noqa: BLE001 - a user's handler
        if logging.raiseExceptions:
            traceback.print_exc()
