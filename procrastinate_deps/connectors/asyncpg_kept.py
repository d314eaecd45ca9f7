"""Connections that stay out of asyncpg's pool between two statements."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import asyncpg

from procrastinate_deps.connectors import asyncpg_driver as driver

if TYPE_CHECKING:
    import asyncpg.pool

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"

# asyncpg's own default for a connection that nobody uses (max_inactive_connection_lifetime).
MAX_IDLE_S = 300.0
# How long the pool may take to have one back.
RELEASE_TIMEOUT_S = 1.0


class KeptConnections:
    """Those that were used last, to be used next, without the pool's bookkeeping between: it costs as much Python as
    the rest of a statement. Whoever waits for the pool comes first.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Connection, float]] = []
        self._waiting = 0
        # Of a connection that was taken before all were given back: it isn't kept.
        self.generation = 0

    async def take(self, pool: asyncpg.Pool[Any]) -> Connection:
        """One that was kept, or the pool's. It is kept again, or released to the pool, by whoever took it."""
        # The first one is the one that nobody has used for longest, as after a time when many were.
        while self._kept and time.monotonic() - self._kept[0][1] >= MAX_IDLE_S:
            _end(self._kept.pop(0)[0])
        while self._kept:
            connection, _ = self._kept.pop()
            if not _died(connection):
                return connection
        self._waiting += 1
        try:
            return await pool.acquire()
        finally:
            self._waiting -= 1

    def keep(self, connection: Connection, generation: int) -> bool:
        """Whether it is kept; else it belongs to the pool."""
        if self._waiting or generation != self.generation or _died(connection):
            return False
        self._kept.append((connection, time.monotonic()))
        return True

    def end_all(self) -> None:
        """None of them is trusted any more, nor are those that are in use."""
        self.generation += 1
        while self._kept:
            _end(self._kept.pop()[0])

    async def give_back_all(self, pool: asyncpg.Pool[Any]) -> None:
        self.generation += 1
        kept, self._kept = self._kept, []
        # All of them, whoever is cancelled meanwhile: the pool waits for each when it is closed.
        with anyio.CancelScope(shield=True):
            for connection, _ in kept:
                with contextlib.suppress(*driver.ERRORS):
                    await pool.release(connection, timeout=RELEASE_TIMEOUT_S)


def _end(connection: Connection) -> None:
    """Its place in the pool is free from now on."""
    if not _died(connection):
        connection.terminate()


def _died(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has noticed, and taken it back by itself
        return True
