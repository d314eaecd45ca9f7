"""Which errors of a statement pass by themselves, and how long to wait for that."""

from __future__ import annotations

import random

from procrastinate_deps.exceptions import (
    ConnectorException,
    IsolationLevelError,
    LockNotAvailable,
    NoResult,
    SchemaNotReady,
    UniqueViolation,
)

_LASTING = (IsolationLevelError, NoResult, SchemaNotReady, UniqueViolation)

# SQLSTATE classes: connection, rollback (a deadlock), resources, operator intervention (a server that stops), system.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")


READ_ONLY = "25006"
"""A server that takes no writes: a standby, or a primary that has become one. A failover ends that."""


def passes_by_itself(error: ConnectorException) -> bool:
    """Whether the same statement may work later: a lost connection, not a missing right or a value that doesn't fit."""
    if isinstance(error, LockNotAvailable):
        return True
    if isinstance(error, _LASTING):
        return False
    return error.sqlstate is None or error.sqlstate == READ_ONLY or error.sqlstate.startswith(_PASSING_CLASSES)


class Backoff:
    """Seconds to wait after the first failure, the second, ...: each time up to twice as many, up to a limit.

    Spread over the upper half, or all the workers of a server that restarts would come back in the same moment.
    """

    __slots__ = ("_first_s", "_limit_s", "_next_s")

    def __init__(self, first_s: float, limit_s: float) -> None:
        self._first_s = min(first_s, limit_s)
        self._limit_s = limit_s
        self._next_s = self._first_s

    def next_s(self) -> float:
        current = self._next_s
        self._next_s = min(2 * current, self._limit_s)
        return current * random.uniform(0.5, 1)

    def reset(self) -> None:
        self._next_s = self._first_s
