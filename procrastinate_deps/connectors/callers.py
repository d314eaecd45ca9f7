"""Statements on a connection of the caller's: inside the caller's transaction, which is never committed here.

The drivers' modules are imported only for a connection of theirs: each driver can be missing where the other is used.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from procrastinate_deps.jsontext import JsonLoads
    from procrastinate_deps.statements import Row, Statement

T = TypeVar("T")

SAVEPOINT = "SAVEPOINT procrastinate_deps"
RELEASE = "RELEASE SAVEPOINT procrastinate_deps"
ROLL_BACK = f"ROLLBACK TO {SAVEPOINT}; {RELEASE}"


def execute(connection: Any, statement: Statement[T], queries: Mapping[str, str], loads: JsonLoads) -> T:
    """Run a statement on a sync connection."""
    if not _is_a(connection, "psycopg", "Connection"):
        raise _refused(connection, sync=True)
    from procrastinate_deps.connectors import psycopg_driver as driver

    query = queries[statement.name]
    try:
        if not (statement.savepoint and driver.needs_savepoint(connection)):
            rows: Sequence[Row] = driver.run(connection, query, statement.values)
        else:
            driver.run_script(connection, SAVEPOINT)
            try:
                rows = driver.run(connection, query, statement.values)
            except BaseException:
                # a connection that is lost can't roll back: the first error tells that
                with contextlib.suppress(driver.ERRORS):
                    driver.run_script(connection, ROLL_BACK)
                raise
            driver.run_script(connection, RELEASE)
    except driver.ERRORS as error:
        raise driver.translated(error) from error
    return statement.read(rows, loads)


async def execute_async(connection: Any, statement: Statement[T], queries: Mapping[str, str], loads: JsonLoads) -> T:
    """Run a statement on an async connection, of either driver."""
    driver: ModuleType
    errors: Any
    if _is_a(connection, "psycopg", "AsyncConnection"):
        from procrastinate_deps.connectors import psycopg_driver

        driver, errors = psycopg_driver, psycopg_driver.ERRORS
    elif _is_a(connection, "asyncpg", "Connection") or _is_a(connection, "asyncpg.pool", "PoolConnectionProxy"):
        from procrastinate_deps.connectors import asyncpg_driver

        driver, errors = asyncpg_driver, asyncpg_driver.ERRORS
    else:
        raise _refused(connection, sync=False)

    query = queries[statement.name]
    try:
        if not (statement.savepoint and driver.needs_savepoint(connection)):
            rows = await driver.run_async(connection, query, statement.values)
        else:
            await driver.run_script_async(connection, SAVEPOINT)
            try:
                rows = await driver.run_async(connection, query, statement.values)
            except BaseException:
                # cancelled or not: the caller goes on with the transaction
                with anyio.CancelScope(shield=True), contextlib.suppress(errors):
                    await driver.run_script_async(connection, ROLL_BACK)
                raise
            await driver.run_script_async(connection, RELEASE)
    except errors as error:
        raise driver.translated(error) from error
    return statement.read(rows, loads)


def _is_a(connection: Any, module: str, name: str) -> bool:
    """Whether the connection is of this class; a driver that was never imported has no connections."""
    return module in sys.modules and isinstance(connection, getattr(sys.modules[module], name))


def _refused(connection: Any, *, sync: bool) -> TypeError:
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    if sync and any(
        _is_a(connection, *other)
        for other in (
            ("psycopg", "AsyncConnection"),
            ("asyncpg", "Connection"),
            ("asyncpg.pool", "PoolConnectionProxy"),
        )
    ):
        return TypeError(f"connection= is an async one ({kind}): call the verb whose name ends in _async, and await it")
    if not sync and _is_a(connection, "psycopg", "Connection"):
        return TypeError(
            f"connection= is a sync one ({kind}): call the verb that is not async, or pass an async connection"
        )
    wanted = "psycopg.Connection" if sync else "psycopg.AsyncConnection, or asyncpg's Connection"
    return TypeError(f"connection= takes {wanted}, not {kind}")
