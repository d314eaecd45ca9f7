"""How a statement runs on a connection of asyncpg, whoever's it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import anyio
import asyncpg
import asyncpg.pool

from procrastinate_deps.connectors.errors import translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.exceptions import ProcrastinateException
    from procrastinate_deps.statements import Row

AsyncConnection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"

# what asyncpg lets through: the server's errors, its own, and those of the socket under it. InternalClientError is what
# a connection says at its first use after the server has ended it.
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


async def run_async(connection: AsyncConnection, query: str, values: Sequence[Any]) -> Sequence[Row]:
    """The rows of one statement. Raises one of ERRORS."""
    return cast("Sequence[Row]", await connection.fetch(query, *values))


async def run_within_async(
    connection: AsyncConnection, query: str, values: Sequence[Any], limits: str
) -> Sequence[Row]:
    """The rows of one statement in a transaction of its own, with these settings. Raises one of ERRORS."""
    await connection.execute(f"BEGIN; {limits}")
    try:
        rows = await run_async(connection, query, values)
    except BaseException:
        with anyio.CancelScope(shield=True), contextlib.suppress(*ERRORS):
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return rows


async def run_script_async(connection: AsyncConnection, script: str) -> None:
    """Several statements without values."""
    await connection.execute(script)


def needs_savepoint(connection: AsyncConnection) -> bool:
    """Whether an error would spoil a transaction of the caller's."""
    return connection.is_in_transaction()


def sqlstate_of(error: BaseException) -> str | None:
    return error.sqlstate if isinstance(error, asyncpg.PostgresError) else None


def translated(error: BaseException) -> ProcrastinateException:
    text = str(error).strip() or type(error).__name__
    return translate(
        sqlstate=sqlstate_of(error),
        message=getattr(error, "message", None) or text,
        detail=getattr(error, "detail", None),
        hint=getattr(error, "hint", None),
        constraint=getattr(error, "constraint_name", None),
    )
