"""Connections that stay out of asyncpg's pool between two statements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

if TYPE_CHECKING:
    import asyncpg.pool

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"

# asyncpg's own default for a connection that nobody uses (max_inactive_connection_lifetime).
MAX_IDLE_S = 300.0


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
        while self._kept:
            connection, kept_at = self._kept.pop()
            if _died(connection):
                continue
            if time.monotonic() - kept_at < MAX_IDLE_S:
                return connection
            connection.terminate()
            await pool.release(connection)
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

    async def give_back_all(self, pool: asyncpg.Pool[Any]) -> None:
        self.generation += 1
        kept, self._kept = self._kept, []
        for connection, _ in kept:
            await pool.release(connection)


def _died(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has noticed, and taken it back by itself
        return True
