"""Every way in which a statement reaches the database: the connectors, and callers' own connections."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import psycopg
from psycopg.rows import dict_row

from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector, SyncConnector, SyncPsycopgConnector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from procrastinate_deps.connectors import AsyncConnector
    from procrastinate_deps.statements import Statement

T = TypeVar("T")


@dataclass(frozen=True)
class Way:
    """A connector and, for some ways, the connection that the caller gives along."""

    connector: AsyncConnector | SyncConnector
    connection: Any = None

    async def run(self, statement: Statement[T]) -> T:
        if isinstance(self.connector, SyncConnector):
            return self.connector.execute(statement, self.connection)
        return await self.connector.execute_async(statement, self.connection)


@contextlib.asynccontextmanager
async def psycopg_connector(dsn: str) -> AsyncIterator[Way]:
    async with PsycopgConnector(conninfo=dsn) as connector:
        yield Way(connector)


@contextlib.asynccontextmanager
async def psycopg_unprepared(dsn: str) -> AsyncIterator[Way]:
    async with PsycopgConnector(conninfo=dsn, prepare_statements=False) as connector:
        yield Way(connector)


@contextlib.asynccontextmanager
async def sync_psycopg_connector(dsn: str) -> AsyncIterator[Way]:
    with SyncPsycopgConnector(conninfo=dsn) as connector:
        yield Way(connector)


@contextlib.asynccontextmanager
async def asyncpg_connector(dsn: str) -> AsyncIterator[Way]:
    async with AsyncpgConnector(dsn) as connector:
        yield Way(connector)


@contextlib.asynccontextmanager
async def asyncpg_unprepared(dsn: str) -> AsyncIterator[Way]:
    async with AsyncpgConnector(dsn, prepare_statements=False) as connector:
        yield Way(connector)


@contextlib.asynccontextmanager
async def sync_twin_of_asyncpg(dsn: str) -> AsyncIterator[Way]:
    with AsyncpgConnector(dsn).sync_twin() as connector:
        yield Way(connector)


@contextlib.asynccontextmanager
async def callers_psycopg(dsn: str) -> AsyncIterator[Way]:
    """With the caller's row factory and time zone, in autocommit; the connector needn't be open."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        await connection.execute("SET timezone = 'Asia/Kolkata'")
        yield Way(AsyncpgConnector(dsn), connection)


@contextlib.asynccontextmanager
async def callers_psycopg_transaction(dsn: str) -> AsyncIterator[Way]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        yield Way(PsycopgConnector(conninfo=dsn), connection)


@contextlib.asynccontextmanager
async def callers_sync_psycopg(dsn: str) -> AsyncIterator[Way]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        yield Way(SyncPsycopgConnector(conninfo=dsn), connection)


@contextlib.asynccontextmanager
async def callers_asyncpg(dsn: str) -> AsyncIterator[Way]:
    """With the caller's codecs."""
    connection = await asyncpg.connect(dsn)
    try:
        for type_name in ("json", "jsonb"):
            await connection.set_type_codec(type_name, schema="pg_catalog", encoder=repr, decoder=repr)
        yield Way(PsycopgConnector(conninfo=dsn), connection)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def callers_asyncpg_pool(dsn: str) -> AsyncIterator[Way]:
    pooled = asyncpg.create_pool(dsn, min_size=1, max_size=2)
    async with pooled as pool, pool.acquire() as connection, connection.transaction():
        yield Way(AsyncpgConnector(dsn), connection)


WAYS: tuple[Callable[[str], AbstractAsyncContextManager[Way]], ...] = (
    psycopg_connector,
    psycopg_unprepared,
    sync_psycopg_connector,
    asyncpg_connector,
    asyncpg_unprepared,
    sync_twin_of_asyncpg,
    callers_psycopg,
    callers_psycopg_transaction,
    callers_sync_psycopg,
    callers_asyncpg,
    callers_asyncpg_pool,
)
