"""What a connector does besides running statements: opening, closing, listening, retrying, and keeping secrets."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import asyncpg
import psycopg
import psycopg_pool
import pytest

from procrastinate_deps import statements
from procrastinate_deps.connectors import AsyncConnector, AsyncpgConnector, PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.connectors.errors import MAX_RETRIES
from procrastinate_deps.exceptions import AppNotOpen, ConnectorException, InvalidArguments
from procrastinate_deps.jobs import JobSpec, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE_S = 30

async_connectors = pytest.mark.parametrize(
    "make",
    [lambda dsn, **options: PsycopgConnector(conninfo=dsn, **options), AsyncpgConnector],
    ids=["psycopg", "asyncpg"],
)


def one(dsn: str, query: str, *values: Any) -> Any:
    """The first column of the first row."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode(), values).fetchone()
        return None if row is None else row[0]


def script(dsn: str, text: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(text.encode())


# Opening and closing


@async_connectors
async def test_not_open(make: Callable[..., AsyncConnector], dsn: str) -> None:
    connector = make(dsn)
    with pytest.raises(AppNotOpen, match="open"):
        await connector.execute_async(statements.list_workers())
    with pytest.raises(AppNotOpen):
        await connector.execute_script_async("SELECT 1")
    await connector.close_async()
    async with connector:
        await connector.execute_async(statements.list_workers())
    with pytest.raises(AppNotOpen):
        await connector.execute_async(statements.list_workers())
    with pytest.raises(AppNotOpen):
        connector.sync_twin().execute(statements.list_workers())


@async_connectors
async def test_opening_twice_and_again(make: Callable[..., AsyncConnector], dsn: str) -> None:
    connector = make(dsn)
    for _ in range(2):
        await connector.open_async()
        await connector.open_async()
        assert await connector.execute_async(statements.check_connection())
        await connector.close_async()
    assert one(dsn, OTHERS) == 0


OTHERS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'procrastinate_deps'"
)


async def test_an_external_psycopg_pool_is_used_and_not_closed(dsn: str) -> None:
    async with psycopg_pool.AsyncConnectionPool(dsn, min_size=1, kwargs={"application_name": "mine"}) as pool:
        connector = PsycopgConnector()
        await connector.open_async(pool)
        # its connections are not in autocommit, and what was done is kept all the same
        [job_id] = await connector.execute_async(statements.defer_jobs([JobSpec(task_name="t")]))
        assert one(dsn, "SELECT status::text FROM procrastinate_deps.jobs WHERE id = %s", job_id) == "todo"
        with connector.sync_twin() as twin:
            assert twin.execute(statements.get_job_status(job_id)) == "todo"
        await connector.close_async()
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")


async def test_an_external_asyncpg_pool_is_used_and_not_closed(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        connector = AsyncpgConnector()
        await connector.open_async(pool)
        await connector.execute_async(statements.defer_jobs([JobSpec(task_name="t")]))
        await connector.close_async()
        assert await pool.fetchval("SELECT count(*) FROM procrastinate_deps.jobs") == 1


async def test_a_pool_of_another_kind(dsn: str) -> None:
    connector = PsycopgConnector(conninfo=dsn, pool_factory=psycopg_pool.AsyncNullConnectionPool, max_size=3)
    async with connector:
        await connector.execute_async(statements.defer_jobs([JobSpec(task_name="t")]))
        assert isinstance(connector._opened(), psycopg_pool.AsyncNullConnectionPool)
    assert one(dsn, "SELECT count(*) FROM procrastinate_deps.jobs") == 1


def test_an_external_sync_pool(dsn: str) -> None:
    with psycopg_pool.ConnectionPool(dsn, min_size=1) as pool:
        connector = SyncPsycopgConnector()
        connector.open(pool)
        connector.execute(statements.defer_jobs([JobSpec(task_name="t")]))
        connector.close()
        with pool.connection() as connection:
            assert connection.execute("SELECT count(*) FROM procrastinate_deps.jobs").fetchone() == (1,)


@async_connectors
async def test_connections_say_who_they_are(make: Callable[..., AsyncConnector], dsn: str) -> None:
    async with make(dsn) as connector:
        await connector.execute_async(statements.check_connection())
        assert one(dsn, OTHERS) == 1
    async with make(f"{dsn}&application_name=shop") as connector:
        await connector.execute_async(statements.check_connection())
        assert one(dsn, OTHERS) == 0
        assert one(dsn, OTHERS.replace("procrastinate_deps", "shop")) == 1


@async_connectors
@pytest.mark.parametrize("form", ["url", "pairs", "environment"])
async def test_libpqs_forms(
    make: Callable[..., AsyncConnector], dsn: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = psycopg.conninfo.conninfo_to_dict(dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    assert set(parameters) <= set(names)
    if form == "environment":
        for name, value in parameters.items():
            monkeypatch.setenv(names[name], str(value))
    given = {"url": dsn, "pairs": psycopg.conninfo.make_conninfo("", **parameters), "environment": ""}[form]
    async with make(given) as connector:
        [job_id] = await connector.execute_async(statements.defer_jobs([JobSpec(task_name="t")]))
    with make(given).sync_twin() as twin:
        assert twin.execute(statements.get_job_status(job_id)) == "todo"


# Round trips


@async_connectors
async def test_a_statement_is_one_round_trip(make: Callable[..., AsyncConnector], dsn: str) -> None:
    """Nothing is sent after it: no COMMIT, no reset of the connection."""
    async with make(dsn, min_size=1, max_size=1) as connector:
        await connector.execute_async(statements.list_tasks())
        last = "SELECT query FROM pg_stat_activity WHERE application_name = 'procrastinate_deps'"
        assert "GROUP BY job.task_name" in one(dsn, f"{last} AND datname = current_database()")


def test_an_int_of_any_size_is_the_same_prepared_statement(dsn: str) -> None:
    with SyncPsycopgConnector(conninfo=dsn, min_size=1, max_size=1) as connector:
        for job_id in [1, 40_000, 2**40] * 6:
            connector.execute(statements.get_parents(job_id))
        with connector._opened().connection() as connection:
            rows = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert rows == (1,)


async def test_no_prepared_statements_when_told(dsn: str) -> None:
    for connector in (
        PsycopgConnector(conninfo=dsn, max_size=1, prepare_statements=False),
        AsyncpgConnector(dsn, max_size=1, prepare_statements=False),
    ):
        async with connector:
            for _ in range(10):
                await connector.execute_async(statements.list_workers())
            query = statements.Statement("prepared", (), lambda rows, loads: rows[0][0])
            connector._queries = {"prepared": "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"}
            assert await connector.execute_async(query) == 0


# Errors


@async_connectors
async def test_a_server_that_is_not_there(make: Callable[..., AsyncConnector], tmp_path: Any) -> None:
    connector = make(f"host={tmp_path} user=someone password=s3cret dbname=d")
    with anyio.fail_after(DEADLINE_S), pytest.raises(ConnectorException, match=r"can't connect.*someone") as refused:
        await connector.open_async()
    assert "s3cret" not in str(refused.value)
    with pytest.raises(AppNotOpen):
        await connector.execute_async(statements.list_workers())
    with pytest.raises(ConnectorException, match="can't connect"):
        connector.sync_twin().open()
    with pytest.raises(ConnectorException, match="can't connect"):
        async with connector.listen("x"):
            pass


def test_no_secret_is_shown(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cr/t@%"
    for connector in (
        PsycopgConnector(conninfo=f"host=h password='{secret}'"),
        PsycopgConnector(conninfo="host=h", kwargs={"password": secret}),
        SyncPsycopgConnector(conninfo="postgresql://u:s3cr%2Ft%40%25@h/d"),
        AsyncpgConnector("postgresql://u:s3cr%2Ft%40%25@h/d"),
        AsyncpgConnector("host=h", password=secret),
    ):
        assert connector.connection_parameters()["password"] == secret
        assert "s3cr" not in repr(connector)
        assert "host=h" in repr(connector)
    for listening in (
        PsycopgConnector(conninfo="host=h", listen_dsn=f"host=direct password='{secret}'"),
        AsyncpgConnector("host=h", listen_dsn="postgresql://u:s3cr%2Ft%40%25@direct/d"),
    ):
        assert "s3cr" not in repr(listening)
        assert "host=direct" in repr(listening)
    assert "s3cr" not in caplog.text
    makers: list[Callable[..., AsyncConnector]] = [
        lambda dsn, **options: PsycopgConnector(conninfo=dsn, **options),
        AsyncpgConnector,
    ]
    for malformed in ("host=h password=s3cret oops", "postgresql://u:s3cret@h:x:y/d"):
        for make in makers:
            for given in ({"dsn": malformed}, {"dsn": "host=h", "listen_dsn": malformed}):
                with pytest.raises(ValueError, match="connection") as refused:
                    make(**given)
                assert "s3cret" not in str(refused.value)


@async_connectors
async def test_where_it_listens_in_vain(make: Callable[..., AsyncConnector], dsn: str, tmp_path: Any) -> None:
    """The error is about that place, and shows no password: neither its own nor one that stood beside the main one."""
    connector = make(dsn, listen_dsn=f"host={tmp_path} user=someone password=s3cret dbname=d")
    async with connector:
        assert await connector.execute_async(statements.check_connection())
        with pytest.raises(ConnectorException, match=r"can't connect.*someone") as refused:
            async with connector.listen("c"):
                pass
        assert "s3cret" not in str(refused.value)
        # the one who listens can say it, too
        with pytest.raises(ConnectorException, match=r"can't connect.*other"):
            async with connector.listen("c", f"host={tmp_path} user=other dbname=d"):
                pass
        async with connector.listen("c", dsn):
            pass


FLAKY = """
    CREATE SEQUENCE public.tries;
    CREATE FUNCTION public.flaky(failures bigint, code text) RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('public.tries') <= failures THEN
            RAISE EXCEPTION 'unlucky' USING ERRCODE = code;
        END IF;
        RETURN 7;
    END $$
"""
FLAKY_QUERY = {"flaky": "SELECT public.flaky($1::bigint, $2::text)"}


def flaky(failures: int, code: str = "40P01") -> statements.Statement[int]:
    return statements.Statement("flaky", (failures, code), lambda rows, loads: rows[0][0], savepoint=True)


@async_connectors
async def test_deadlocks_and_serialisation_failures_are_retried(make: Callable[..., AsyncConnector], dsn: str) -> None:
    script(dsn, FLAKY)
    connector = make(dsn)
    connector._queries = {**connector._queries, **FLAKY_QUERY}
    twin = connector.sync_twin()
    twin._queries = {**twin._queries, **FLAKY_QUERY}
    async with connector:
        for code in ("40P01", "40001"):
            script(dsn, "ALTER SEQUENCE public.tries RESTART")
            assert await connector.execute_async(flaky(MAX_RETRIES, code)) == 7
            assert one(dsn, "SELECT last_value FROM public.tries") == MAX_RETRIES + 1
            with twin:
                script(dsn, "ALTER SEQUENCE public.tries RESTART")
                assert twin.execute(flaky(MAX_RETRIES, code)) == 7

        script(dsn, "ALTER SEQUENCE public.tries RESTART")
        with pytest.raises(ConnectorException) as given_up:
            await connector.execute_async(flaky(1000))
        assert given_up.value.sqlstate == "40P01"
        assert one(dsn, "SELECT last_value FROM public.tries") == MAX_RETRIES + 1

        script(dsn, "ALTER SEQUENCE public.tries RESTART")
        with pytest.raises(ConnectorException):
            await connector.execute_async(flaky(1, "22023"))
        assert one(dsn, "SELECT last_value FROM public.tries") == 1


async def test_nothing_is_retried_on_a_callers_connection(dsn: str) -> None:
    script(dsn, FLAKY)
    connector = PsycopgConnector(conninfo=dsn)
    connector._queries = {**connector._queries, **FLAKY_QUERY}
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        with pytest.raises(ConnectorException) as refused:
            await connector.execute_async(flaky(1), connection)
    assert refused.value.sqlstate == "40P01"
    assert one(dsn, "SELECT last_value FROM public.tries") == 1


@async_connectors
async def test_a_connection_that_was_closed_while_idle_is_not_used(
    make: Callable[..., AsyncConnector], dsn: str
) -> None:
    kill = (
        "SELECT array_agg(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() OFFSET 0) AS others WHERE pg_terminate_backend(pid)"
    )
    connector = make(dsn, min_size=1, max_size=1)
    async with connector:
        with connector.sync_twin() as twin:
            await connector.execute_async(statements.list_workers())
            twin.execute(statements.list_workers())
            killed = one(dsn, kill)
            assert len(killed) >= 2
            with anyio.fail_after(DEADLINE_S):
                while any(_lives(pid) for pid in killed):  # noqa: ASYNC110 - another process's end tells no event
                    await anyio.sleep(0.01)
            await anyio.sleep(0.01)  # a turn of the event loop, in which asyncpg sees the end of its connection
            assert await connector.execute_async(statements.list_workers()) == []
            assert twin.execute(statements.list_workers()) == []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# JSON


@async_connectors
async def test_json_functions_of_ones_own(make: Callable[..., AsyncConnector], dsn: str) -> None:
    import json

    def dumps(value: Any) -> bytes:
        return json.dumps(value, default=lambda other: {"__set__": sorted(other)}).encode()

    def loads(text: str) -> Any:
        return json.loads(text, object_hook=lambda found: set(found["__set__"]) if "__set__" in found else found)

    connector = make(dsn, json_dumps=dumps, json_loads=loads)
    async with connector:
        spec = JobSpec(task_name="t", task_kwargs={"a": {3, 1}})
        [job_id] = await connector.execute_async(statements.defer_jobs([spec], json_dumps=connector.json_dumps))
        worker = await connector.execute_async(statements.register_worker("w", "h", 1, None, 1, "0"))
        [job] = await connector.execute_async(statements.fetch_jobs(None, worker, 1))
        assert job.task_kwargs == {"a": {1, 3}}
        outcome = Outcome(job_id=job_id, claim=job.claim, status="succeeded", result={9})
        await connector.execute_async(statements.finish_jobs([outcome], json_dumps=connector.json_dumps))
        assert (await connector.execute_async(statements.get_job(job_id))).result == {9}
    with connector.sync_twin() as twin:
        assert twin.execute(statements.get_job(job_id)).result == {9}


# Listening


@async_connectors
async def test_listening(make: Callable[..., AsyncConnector], dsn: str) -> None:
    """Also with a channel that needs quoting, and without opening: it is a connection of its own."""
    channel = """my-Jobs's "odd" name"""
    with anyio.fail_after(DEADLINE_S):
        async with make(dsn).listen(channel) as listener:
            for payload in ("one", "two"):
                one(dsn, "SELECT pg_notify(%s, %s)", channel, payload)
            one(dsn, "SELECT pg_notify('other', 'three')")
            one(dsn, "SELECT pg_notify(%s, '')", channel)
            received = aiter(listener)
            assert [await anext(received) for _ in range(3)] == ["one", "two", ""]
    assert one(dsn, OTHERS) == 0


@async_connectors
async def test_a_wait_that_was_cancelled_loses_nothing(make: Callable[..., AsyncConnector], dsn: str) -> None:
    async with make(dsn).listen("c") as listener:
        with anyio.move_on_after(0.05) as scope:
            await anext(aiter(listener))
        assert scope.cancelled_caught
        one(dsn, "SELECT pg_notify('c', 'late')")
        with anyio.fail_after(DEADLINE_S):
            assert await anext(aiter(listener)) == "late"


@async_connectors
async def test_closing_ends_the_iteration(make: Callable[..., AsyncConnector], dsn: str) -> None:
    ended = anyio.Event()

    with anyio.fail_after(DEADLINE_S):
        async with make(dsn).listen("c") as listener, anyio.create_task_group() as group:
            first = anyio.Event()

            async def iterate() -> None:
                async for _ in listener:
                    first.set()
                ended.set()

            group.start_soon(iterate)
            one(dsn, "SELECT pg_notify('c', 'x')")
            await first.wait()
            await listener.aclose()
            await ended.wait()
            assert [payload async for payload in listener] == []


@async_connectors
async def test_a_listener_notices_that_its_connection_died(make: Callable[..., AsyncConnector], dsn: str) -> None:
    async with make(dsn).listen("c") as listener, anyio.create_task_group() as group:

        async def kill() -> None:
            await anyio.to_thread.run_sync(
                one,
                dsn,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()",
            )

        group.start_soon(kill)
        with anyio.fail_after(DEADLINE_S), pytest.raises(ConnectorException):
            await anext(aiter(listener))


# Arguments


@async_connectors
async def test_a_value_that_the_database_refuses_is_refused_before_it(
    make: Callable[..., AsyncConnector], dsn: str
) -> None:
    async with make(dsn):
        for value in (float("nan"), {1}, "\x00", {"\x00": 1}, ["\ud800"]):
            with pytest.raises(InvalidArguments, match=r"task 'pkg\.t': the argument 'a' can't be stored as JSON"):
                statements.defer_jobs([JobSpec(task_name="pkg.t", task_kwargs={"ok": 1, "a": value})])
