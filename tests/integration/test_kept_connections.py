"""Connections that stay out of asyncpg's pool between two statements: none is lost, nobody waits for one in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import psycopg
import pytest

from procrastinate_deps import statements
from procrastinate_deps.connectors import AsyncpgConnector, asyncpg_kept
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.statements.base import Statement, read_value
from tests.integration.worker_helpers import DEADLINE_S, query, until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of the application's own connections, by the name that they give themselves.
OURS = "application_name = 'kept' AND datname = current_database()"
ACTIVE = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND state = 'active'"
WAITING = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"
TERMINATE = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {OURS}"
QUERIES = {
    "pid": "SELECT pg_backend_pid()",
    "sleep": "SELECT pg_backend_pid() FROM pg_sleep($1::float8)",
    "meet": "SELECT pg_backend_pid() FROM pg_advisory_xact_lock_shared(1)",
    "fail": "SELECT 1 / $1::integer",
}


def connector(dsn: str, **options: Any) -> AsyncpgConnector:
    made = AsyncpgConnector(dsn, server_settings={"application_name": "kept"}, **options)
    made._queries = {**made._queries, **QUERIES}
    return made


def ask(name: str, *values: Any) -> Statement[Any]:
    return Statement(name, values, read_value)


def backends(dsn: str) -> list[int]:
    return [row[0] for row in query(dsn, f"SELECT pid FROM pg_stat_activity WHERE {OURS} ORDER BY pid")]


def kept(connector: AsyncpgConnector) -> int:
    return len(connector._kept._kept)


@pytest.fixture
def held(dsn: str) -> Iterator[psycopg.Connection]:
    """Whoever asks to meet has to wait until this commits."""
    with psycopg.connect(dsn) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(1)")
        yield conn


async def at_once(connector: AsyncpgConnector, held: psycopg.Connection, dsn: str, count: int) -> set[int]:
    """The backends of so many statements that are under way at the same time."""
    pids: list[int] = []

    async def meet() -> None:
        pids.append(await connector.execute_async(ask("meet")))

    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(meet)
            await until(lambda: query(dsn, WAITING) == [(count,)], "all of them to wait in the database")
            held.commit()
    return set(pids)


async def test_the_connection_of_the_last_statement_is_used_for_the_next_one_without_the_pool(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connector(dsn) as ours:
        pid = await ours.execute_async(ask("pid"))
        assert kept(ours) == 1
        pool = ours._opened()
        assert pool.get_idle_size() == 0

        def acquire(pool: object) -> None:
            raise AssertionError("the pool was asked")

        with monkeypatch.context() as patch:
            patch.setattr(asyncpg.Pool, "acquire", acquire)
            for _ in range(3):
                assert await ours.execute_async(ask("pid")) == pid
        assert len(backends(dsn)) == 1


async def test_many_callers_share_one_connection(dsn: str) -> None:
    pids = set()

    async def call() -> None:
        for _ in range(20):
            pids.add(await ours.execute_async(ask("pid")))

    async with connector(dsn, max_size=1) as ours:
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(call)
        assert len(pids) == 1
        assert backends(dsn) == list(pids)


async def test_a_pool_of_the_callers_own_has_all_its_connections_between_statements(dsn: str) -> None:
    pool = asyncpg.create_pool(dsn, min_size=1, max_size=1)
    async with pool:
        ours = connector(dsn)
        await ours.open_async(pool)
        for _ in range(3):
            await ours.execute_async(statements.list_workers())
            assert kept(ours) == 0
            async with pool.acquire(timeout=DEADLINE_S) as connection:
                assert await connection.fetchval("SELECT 1") == 1
        await ours.renew_async()
        await ours.execute_async(statements.list_workers())
        await ours.close_async()
        assert await pool.fetchval("SELECT 1", timeout=DEADLINE_S) == 1


async def test_scripts_need_no_connection_of_their_own(dsn: str) -> None:
    async with connector(dsn, max_size=1) as ours:
        await ours.execute_async(ask("pid"))
        with anyio.fail_after(DEADLINE_S):
            await ours.execute_script_async("CREATE TABLE one (); CREATE TABLE two ()")
            with pytest.raises(ConnectorException, match="already exists"):
                await ours.execute_script_async("CREATE TABLE one ()")
            await ours.execute_async(ask("pid"))
        assert len(backends(dsn)) == 1


async def test_backends_that_were_terminated_while_they_were_kept(dsn: str, held: psycopg.Connection) -> None:
    async with connector(dsn, min_size=4, max_size=4) as ours:
        await at_once(ours, held, dsn, 4)
        assert kept(ours) == 4
        before = backends(dsn)
        query(dsn, TERMINATE)
        await until(lambda: not set(before) & set(backends(dsn)), "the end of the backends")
        # One is known to be dead when it is taken, another one only when it is used: no statement is lost with it here.
        await until(
            lambda: all(asyncpg_kept._died(each) for each, _ in ours._kept._kept), "the news that all of them are gone"
        )
        assert await ours.execute_async(ask("pid")) not in before
        held.execute("SELECT pg_advisory_xact_lock(1)")
        assert len(await at_once(ours, held, dsn, 4)) == 4


async def test_a_backend_that_is_terminated_in_a_statement(dsn: str) -> None:
    async with connector(dsn, max_size=1) as ours:
        pid = await ours.execute_async(ask("pid"))
        for _ in range(3):
            async with anyio.create_task_group() as group:

                async def sleep() -> None:
                    with pytest.raises(ConnectorException):
                        await ours.execute_async(ask("sleep", 10 * DEADLINE_S))

                group.start_soon(sleep)
                await until(lambda: query(dsn, ACTIVE) == [(1,)], "a statement")
                query(dsn, TERMINATE)
            with anyio.fail_after(DEADLINE_S):
                assert await ours.execute_async(ask("pid")) != pid


@pytest.mark.parametrize("error", [True, False])
async def test_a_statement_that_fails_or_is_cancelled_costs_no_connection(
    dsn: str, held: psycopg.Connection, error: bool
) -> None:
    async with connector(dsn, max_size=2) as ours:
        for _ in range(5):
            if error:
                with pytest.raises(ConnectorException, match="division by zero"):
                    await ours.execute_async(ask("fail", 0))
                continue
            async with anyio.create_task_group() as group:
                group.start_soon(ours.execute_async, ask("sleep", 10 * DEADLINE_S))
                await until(lambda: query(dsn, ACTIVE) == [(1,)], "a statement")
                group.cancel_scope.cancel()
            # and it doesn't go on in the database
            await until(lambda: query(dsn, ACTIVE) == [(0,)], "the end of the statement")
        assert len(await at_once(ours, held, dsn, 2)) == 2
        assert len(backends(dsn)) <= 2


async def test_one_who_waits_for_a_connection_and_is_cancelled_leaves_no_trace(
    dsn: str, held: psycopg.Connection
) -> None:
    async with connector(dsn, max_size=1) as ours:
        pids: list[int] = []
        async with anyio.create_task_group() as group:

            async def meet() -> None:
                pids.append(await ours.execute_async(ask("meet")))

            group.start_soon(meet)
            await until(lambda: query(dsn, WAITING) == [(1,)], "the first one")
            with anyio.move_on_after(0.1) as scope:
                await ours.execute_async(ask("pid"))
            assert scope.cancelled_caught
            held.commit()
        # Nobody waits any more: it is kept.
        assert kept(ours) == 1
        assert await ours.execute_async(ask("pid")) == pids[0]


async def test_after_renewing_no_connection_from_before_is_used(dsn: str, held: psycopg.Connection) -> None:
    async with connector(dsn, min_size=2, max_size=3) as ours:
        idle = await ours.execute_async(ask("pid"))
        in_use: list[int] = []
        async with anyio.create_task_group() as group:

            async def meet() -> None:
                in_use.append(await ours.execute_async(ask("meet")))

            group.start_soon(meet)
            await until(lambda: query(dsn, WAITING) == [(1,)], "a statement")
            before = backends(dsn)
            await ours.renew_async()
            assert kept(ours) == 0
            held.commit()
        assert in_use
        await until(lambda: in_use[0] not in backends(dsn), "the end of the connection that was in use")
        held.execute("SELECT pg_advisory_xact_lock(1)")
        after = await at_once(ours, held, dsn, 3)
        assert len(after) == 3
        assert not after & {idle, *before}
        assert len(backends(dsn)) == 3


@pytest.mark.parametrize("cancelled", [True, False])
async def test_closing_ends_all_connections(dsn: str, held: psycopg.Connection, cancelled: bool) -> None:
    ours = connector(dsn, max_size=3)
    await ours.open_async()
    await at_once(ours, held, dsn, 3)
    with anyio.fail_after(DEADLINE_S):
        if cancelled:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await ours.close_async()
        else:
            await ours.close_async()
        await until(lambda: backends(dsn) == [], "the end of all")
    await ours.open_async()
    try:
        assert backends(dsn) == [await ours.execute_async(ask("pid"))]
    finally:
        await ours.close_async()


async def test_a_statement_that_is_under_way_when_the_connector_is_closed_ends_first(
    dsn: str, held: psycopg.Connection
) -> None:
    ours = connector(dsn)
    await ours.open_async()
    async with anyio.create_task_group() as group:
        answers: list[int] = []

        async def meet() -> None:
            answers.append(await ours.execute_async(ask("meet")))

        group.start_soon(meet)
        await until(lambda: query(dsn, WAITING) == [(1,)], "a statement")
        group.start_soon(ours.close_async)
        await until(lambda: ours._pool is None, "the beginning of the end")
        held.commit()
    assert len(answers) == 1
    assert kept(ours) == 0
    await until(lambda: backends(dsn) == [], "the end of all")


async def test_a_connection_that_nobody_has_used_for_long_is_ended(
    dsn: str, held: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connector(dsn, max_size=4) as ours:
        idle = await at_once(ours, held, dsn, 4)
        assert kept(ours) == 4
        with monkeypatch.context() as patch:
            patch.setattr(asyncpg_kept, "MAX_IDLE_S", 0)
            assert await ours.execute_async(ask("pid")) not in idle
        await until(lambda: not idle & set(backends(dsn)), "their end")
        held.execute("SELECT pg_advisory_xact_lock(1)")
        assert len(await at_once(ours, held, dsn, 4)) == 4


@pytest.mark.parametrize("option", ["setup", "reset", "max_queries", "max_inactive_connection_lifetime"])
async def test_what_the_pool_shall_do_between_statements_is_done(dsn: str, option: str) -> None:
    calls: list[str] = []

    async def note(connection: Any) -> None:
        calls.append(option)

    given: Any = {"setup": note, "reset": note, "max_queries": 1, "max_inactive_connection_lifetime": 0.05}[option]
    async with connector(dsn, min_size=0, **{option: given}) as ours:
        pids = [await ours.execute_async(ask("pid")) for _ in range(3)]
        assert kept(ours) == 0
        match option:
            case "max_queries":
                assert len(set(pids)) == 3
            case "max_inactive_connection_lifetime":
                await until(lambda: pids[0] not in backends(dsn), "the end of a connection that nobody uses")
            case _:
                assert len(calls) >= 3
