"""connection=: a job is part of the caller's transaction, which we never commit, and which survives our errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import psycopg
import pytest
from psycopg.pq import TransactionStatus

from procrastinate_deps import statements
from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.exceptions import AlreadyEnqueued, ConnectorException, DependencyNotFound
from procrastinate_deps.jobs import JobSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

WITH_LOCK = statements.defer_jobs([JobSpec(task_name="new", queueing_lock="k")])
WITHOUT = statements.defer_jobs([JobSpec(task_name="new")])
ORPHAN = statements.defer_jobs([JobSpec(task_name="new", depends_on=[10**9])])


@pytest.fixture
def other(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """What everybody else sees."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.mine (n int)")
        yield connection


def seen(other: psycopg.Connection[Any]) -> tuple[int, int]:
    """The caller's rows, and the jobs of the name `new`."""
    row = other.execute(
        "SELECT (SELECT count(*) FROM public.mine),"
        " (SELECT count(*) FROM procrastinate_deps.jobs WHERE task_name = 'new')"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


async def test_psycopg_idle_and_not_in_autocommit(dsn: str, other: psycopg.Connection[Any]) -> None:
    """Our statement opens the transaction, as any of the caller's would; ending it is the caller's."""
    for statement in (WITHOUT, WITH_LOCK):
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await PsycopgConnector().execute_async(statement, connection)
            assert connection.info.transaction_status == TransactionStatus.INTRANS
            assert seen(other) == (0, 0)
            await connection.rollback()
        assert seen(other) == (0, 0)
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await PsycopgConnector().execute_async(statement, connection)
            await connection.execute("INSERT INTO public.mine VALUES (1)")
            await connection.commit()
        other.execute("DELETE FROM public.mine")
        other.execute("DELETE FROM procrastinate_deps.jobs")


async def test_psycopg_in_autocommit(dsn: str, other: psycopg.Connection[Any]) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await PsycopgConnector().execute_async(WITH_LOCK, connection)
        assert connection.info.transaction_status == TransactionStatus.IDLE
        assert seen(other) == (0, 1)
        with pytest.raises(AlreadyEnqueued):
            await PsycopgConnector().execute_async(WITH_LOCK, connection)
        assert connection.info.transaction_status == TransactionStatus.IDLE


def refusals(other: psycopg.Connection[Any]) -> None:
    other.execute("INSERT INTO procrastinate_deps.jobs (task_name, queueing_lock) VALUES ('old', 'k')")


async def test_psycopgs_transaction_survives_our_errors(dsn: str, other: psycopg.Connection[Any]) -> None:
    refusals(other)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        for first in (False, True):
            if first:
                await connection.execute("INSERT INTO public.mine VALUES (1)")
            with pytest.raises(AlreadyEnqueued):
                await PsycopgConnector().execute_async(WITH_LOCK, connection)
            with pytest.raises(DependencyNotFound):
                await PsycopgConnector().execute_async(ORPHAN, connection)
        await PsycopgConnector().execute_async(WITHOUT, connection)
        assert seen(other) == (0, 0)
    assert seen(other) == (1, 1)


async def test_psycopgs_nested_transaction_survives_too(dsn: str, other: psycopg.Connection[Any]) -> None:
    refusals(other)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection, connection.transaction():
        await connection.execute("INSERT INTO public.mine VALUES (1)")
        async with connection.transaction():
            with pytest.raises(AlreadyEnqueued):
                await PsycopgConnector().execute_async(WITH_LOCK, connection)
            await PsycopgConnector().execute_async(WITHOUT, connection)
    assert seen(other) == (1, 1)


def test_sync_psycopgs_transaction_survives_our_errors(dsn: str, other: psycopg.Connection[Any]) -> None:
    refusals(other)
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO public.mine VALUES (1)")
        for statement, error in ((WITH_LOCK, AlreadyEnqueued), (ORPHAN, DependencyNotFound)):
            with pytest.raises(error):
                SyncPsycopgConnector().execute(statement, connection)
        SyncPsycopgConnector().execute(WITHOUT, connection)
        assert seen(other) == (0, 0)
    assert seen(other) == (1, 1)


async def test_asyncpgs_transaction_survives_our_errors(dsn: str, other: psycopg.Connection[Any]) -> None:
    refusals(other)
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO public.mine VALUES (1)")
            for statement, error in ((WITH_LOCK, AlreadyEnqueued), (ORPHAN, DependencyNotFound)):
                with pytest.raises(error):
                    await AsyncpgConnector().execute_async(statement, connection)
            await AsyncpgConnector().execute_async(WITHOUT, connection)
            assert seen(other) == (0, 0)
        assert seen(other) == (1, 1)
        with pytest.raises(AlreadyEnqueued):
            await AsyncpgConnector().execute_async(WITH_LOCK, connection)
        assert not connection.is_in_transaction()
    finally:
        await connection.close()


async def test_deferring_works_at_every_isolation_level(dsn: str, other: psycopg.Connection[Any]) -> None:
    [parent] = deferred_parent(dsn)
    child = statements.defer_jobs([JobSpec(task_name="new", depends_on=[parent])])
    for level in psycopg.IsolationLevel:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.set_isolation_level(level)
            await PsycopgConnector().execute_async(child, connection)
    assert seen(other) == (0, len(psycopg.IsolationLevel))


def deferred_parent(dsn: str) -> list[int]:
    with SyncPsycopgConnector(conninfo=dsn) as connector:
        return connector.execute(statements.defer_jobs([JobSpec(task_name="parent")]))


async def test_cancelling_us_leaves_the_callers_transaction_usable(dsn: str, other: psycopg.Connection[Any]) -> None:
    """The deferral waits for a transaction that holds the same queueing lock, and is cancelled meanwhile."""
    for connect in (psycopg.AsyncConnection.connect, asyncpg.connect):
        with psycopg.connect(dsn) as blocker:
            blocker.execute("INSERT INTO procrastinate_deps.jobs (task_name, queueing_lock) VALUES ('old', 'k')")
            connection: Any = await connect(dsn)
            if isinstance(connection, asyncpg.Connection):
                await connection.execute("BEGIN")
            await connection.execute("INSERT INTO public.mine VALUES (1)")
            # Cancelled once, as asyncio does it: a cancel scope of anyio cancels again and again, which interrupts
            # psycopg while it waits for the server to stop the query, and then psycopg closes the connection.
            deferral = asyncio.ensure_future(PsycopgConnector().execute_async(WITH_LOCK, connection))
            await until_waiting(other)
            deferral.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deferral
            await PsycopgConnector().execute_async(WITHOUT, connection)
            await connection.execute("COMMIT")
            assert seen(other) == (1, 1)
            await connection.close()
            blocker.rollback()
        other.execute("DELETE FROM public.mine")
        other.execute("DELETE FROM procrastinate_deps.jobs")


async def until_waiting(other: psycopg.Connection[Any]) -> None:
    with anyio.fail_after(30):
        while True:
            row = other.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
            if row is not None and row[0]:
                return
            await anyio.sleep(0.01)


async def test_the_wrong_kind_of_connection_is_refused(dsn: str) -> None:
    connector, sync_connector = PsycopgConnector(), SyncPsycopgConnector()
    with psycopg.connect(dsn) as connection:
        with pytest.raises(TypeError, match="is a sync one"):
            await connector.execute_async(WITHOUT, connection)
        with pytest.raises(TypeError, match="is a sync one"):
            await AsyncpgConnector().execute_async(WITHOUT, connection)
    async with await psycopg.AsyncConnection.connect(dsn) as async_connection:
        with pytest.raises(TypeError, match="ends in _async"):
            sync_connector.execute(WITHOUT, async_connection)
    async with asyncpg.create_pool(dsn, min_size=1) as pool, pool.acquire() as pooled:
        with pytest.raises(TypeError, match="ends in _async"):
            sync_connector.execute(WITHOUT, pooled)
    for nonsense in ("a string", 7, object()):
        with pytest.raises(TypeError, match=r"takes psycopg\.Connection"):
            sync_connector.execute(WITHOUT, nonsense)
        with pytest.raises(TypeError, match=r"takes psycopg\.AsyncConnection, or asyncpg's"):
            await connector.execute_async(WITHOUT, nonsense)


async def test_a_closed_connection_of_the_callers(dsn: str) -> None:
    connection = await psycopg.AsyncConnection.connect(dsn)
    await connection.close()
    with pytest.raises(ConnectorException, match="closed"):
        await PsycopgConnector().execute_async(WITH_LOCK, connection)
    with psycopg.connect(dsn) as sync_connection:
        pass
    with pytest.raises(ConnectorException, match="closed"):
        SyncPsycopgConnector().execute(WITH_LOCK, sync_connection)
    asyncpg_connection = await asyncpg.connect(dsn)
    await asyncpg_connection.close()
    with pytest.raises(ConnectorException, match="closed"):
        await AsyncpgConnector().execute_async(WITH_LOCK, asyncpg_connection)
