"""How a statement runs on a connection of psycopg, whoever's it is."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8Dumper
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from procrastinate_deps.connectors import dsn
from procrastinate_deps.connectors.errors import translate
from procrastinate_deps.exceptions import ConnectorException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from procrastinate_deps.exceptions import ProcrastinateException
    from procrastinate_deps.statements import Row

ERRORS = psycopg.Error

SyncConnection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]


def connect(parameters: Mapping[str, Any], **options: Any) -> SyncConnection:
    """Connect with libpq's parameters. Raises ConnectorException, which shows no secrets."""
    try:
        return psycopg.connect(dsn.conninfo(dsn.defaults(parameters) | dict(parameters)), **options)
    except psycopg.Error as error:
        raise unreachable(error, parameters) from error


def unreachable(error: psycopg.Error, parameters: Mapping[str, Any]) -> ConnectorException:
    """What to raise when there is no connecting with these parameters."""
    reason = dsn.hide_secrets(str(translated(error)), parameters)
    return ConnectorException(
        f"can't connect to PostgreSQL with {dsn.shown(parameters)}: {reason}", sqlstate=error.sqlstate
    )


def run(connection: SyncConnection, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of one statement. Raises psycopg's own errors."""
    with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(query.encode(), values)
        return cursor.fetchall()


async def run_async(connection: AsyncConnection, query: str, values: Sequence[Any]) -> Sequence[Row]:
    """The rows of one statement. Raises psycopg's own errors."""
    async with psycopg.AsyncRawCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


def run_within(connection: SyncConnection, query: str, values: Sequence[Any], limits: str) -> list[tuple[Any, ...]]:
    """The rows of one statement in a transaction of its own, with these settings. Raises psycopg's own errors."""
    run_script(connection, f"BEGIN; {limits}" if connection.autocommit else limits)
    try:
        rows = run(connection, query, values)
    except BaseException:
        with contextlib.suppress(ERRORS):
            connection.rollback()
        raise
    connection.commit()
    return rows


async def run_within_async(
    connection: AsyncConnection, query: str, values: Sequence[Any], limits: str
) -> Sequence[Row]:
    """The rows of one statement in a transaction of its own, with these settings. Raises psycopg's own errors."""
    await run_script_async(connection, f"BEGIN; {limits}" if connection.autocommit else limits)
    try:
        rows = await run_async(connection, query, values)
    except BaseException:
        with anyio.CancelScope(shield=True), contextlib.suppress(ERRORS):
            await connection.rollback()
        raise
    await connection.commit()
    return rows


def run_script(connection: SyncConnection, script: str) -> None:
    """Several statements without values."""
    connection.execute(script.encode(), prepare=False)


async def run_script_async(connection: AsyncConnection, script: str) -> None:
    """Several statements without values."""
    await connection.execute(script.encode(), prepare=False)


def needs_savepoint(connection: SyncConnection | AsyncConnection) -> bool:
    """Whether an error would spoil a transaction of the caller's: one that is open, or that the statement will open."""
    status = connection.info.transaction_status
    return status == TransactionStatus.INTRANS or (status == TransactionStatus.IDLE and not connection.autocommit)


def translated(error: psycopg.Error) -> ProcrastinateException:
    diag = error.diag
    return translate(
        sqlstate=error.sqlstate,
        message=diag.message_primary or str(error).strip() or type(error).__name__,
        detail=diag.message_detail,
        hint=diag.message_hint,
        constraint=diag.constraint_name,
    )


def adapters() -> AdaptersMap:
    """How our own connections send values: every int as bigint, so that a statement is prepared once and not once for
    each size that its numbers happen to have."""
    ours = AdaptersMap(psycopg.adapters)
    ours.register_dumper(int, Int8Dumper)
    return ours


def check_idle(connection: SyncConnection) -> None:
    """Refuse a connection that the server has closed while it was idle. A system call and no round trip."""
    if _has_news(connection):
        ConnectionPool.check_connection(connection)


async def check_idle_async(connection: AsyncConnection) -> None:
    """Refuse a connection that the server has closed while it was idle. A system call and no round trip."""
    if _has_news(connection):
        await AsyncConnectionPool.check_connection(connection)


def _has_news(connection: SyncConnection | AsyncConnection) -> bool:
    """Whether the server said something unasked: mostly that it closes the connection."""
    if not hasattr(select, "poll"):  # Windows: select() takes its sockets whatever their numbers
        return bool(select.select([connection.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
