"""The server goes away and comes back: workers go on by themselves, and nothing is lost or done twice without need."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import asyncpg
import psycopg_pool
import pytest

from procrastinate_deps import App, JobContext, statements
from procrastinate_deps.connectors import SyncPsycopgConnector
from tests.integration.own_servers import OwnServer, own_server
from tests.integration.worker_helpers import (
    ended,
    idle,
    make_app,
    query,
    until,
    working,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from procrastinate_deps._embedded.cluster import Cluster

KILL_ALL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
ENDS = "SELECT status::text, count(*), max(attempts) FROM procrastinate_deps.jobs GROUP BY 1 ORDER BY 1"

drivers = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


@pytest.fixture(scope="module")
def own(server: Cluster) -> Iterator[OwnServer]:
    with own_server(server) as own:
        own.migrate()
        yield own


@pytest.fixture
def clean(own: OwnServer) -> OwnServer:
    """With empty tables."""
    own.start()
    query(own.dsn, "DELETE FROM procrastinate_deps.jobs")
    query(own.dsn, "DELETE FROM procrastinate_deps.workers")
    return own


@pytest.fixture(params=["psycopg", "asyncpg"])
async def app(clean: OwnServer, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    app = make_app(clean.dsn, request.param)
    async with app.open_async():
        yield app


def workers(dsn: str) -> list[tuple[Any, ...]]:
    return query(dsn, "SELECT id FROM procrastinate_deps.workers ORDER BY id")


async def test_a_crash_of_the_server_with_jobs_running_and_ends_waiting(app: App, clean: OwnServer) -> None:
    release, end = anyio.Event(), anyio.Event()
    runs: list[int] = []

    @app.task(name="wait", pass_context=True)
    async def wait(context: JobContext, for_end: bool) -> None:
        runs.append(context.job.id)
        await (end if for_end else release).wait()

    @app.task(name="child", pass_context=True)
    async def child(context: JobContext) -> None:
        runs.append(context.job.id)

    async with working(app, concurrency=20) as worker:
        await idle(worker)
        waiting = await wait.batch_defer_async(*[{"for_end": False}] * 10)
        running = await wait.batch_defer_async(*[{"for_end": True}] * 5)
        after = await child.configure(depends_on=[*waiting, *running]).defer_async()
        await until(lambda: len(runs) == 15, "all of them to run")
        registered = workers(clean.dsn)

        await anyio.to_thread.run_sync(clean.crash)
        release.set()  # these end while there is no server
        await until(lambda: worker._shift is not None and worker._shift._finisher.pending == 10, "ends that wait")
        await anyio.to_thread.run_sync(clean.start)
        for job_id in waiting:
            await ended(app, job_id)
        assert query(clean.dsn, ENDS) == [("blocked", 1, 0), ("doing", 5, 0), ("succeeded", 10, 1)]

        end.set()
        # nothing is found by polling here: it listens again
        assert (await ended(app, after)).status == "succeeded"
        await until(lambda: _listens(clean.dsn), "a session that listens")
        await idle(worker)
        last = await child.defer_async()
        assert (await ended(app, last)).status == "succeeded"
        assert workers(clean.dsn) == registered
    assert query(clean.dsn, ENDS) == [("succeeded", 17, 1)]
    assert sorted(runs) == sorted([*waiting, *running, after, last])


def _listens(dsn: str) -> bool:
    return bool(query(dsn, "SELECT FROM pg_stat_activity WHERE query ILIKE 'listen %%'"))


async def test_all_connections_are_killed_again_and_again(app: App, clean: OwnServer) -> None:
    runs: list[int] = []

    @app.task(name="step", pass_context=True)
    async def step(context: JobContext) -> None:
        runs.append(context.job.id)
        await anyio.sleep(0.01)

    ids: list[int] = []
    with make_app(clean.dsn).open() as direct:
        defer = direct.configure_task("step").batch_defer
        for _ in range(5):
            ids += await anyio.to_thread.run_sync(defer, *[{}] * 20)
    kills = 0
    async with working(app, concurrency=4, update_heartbeat_interval=0.5, fetch_job_polling_interval=0.5):
        while query(clean.dsn, "SELECT FROM procrastinate_deps.jobs WHERE status NOT IN ('succeeded') LIMIT 1"):
            if kills < 8:
                done = len(runs)
                await until(lambda done=done: len(runs) > done or len(set(runs)) == len(ids), "some more runs")  # type: ignore[misc]
                query(clean.dsn, KILL_ALL)
                kills += 1
            await anyio.sleep(0.01)
    assert kills == 8
    # A job whose fetch was not answered was put back and is not a run; none ran twice.
    assert sorted(runs) == sorted(ids)
    assert query(clean.dsn, ENDS) == [("succeeded", len(ids), 1)]


@drivers
async def test_connections_that_died_while_idle_make_no_statement_fail(clean: OwnServer, driver: str) -> None:
    app = make_app(clean.dsn, driver, min_size=8)
    async with app.open_async():
        for at_once in (1, 8):
            await anyio.to_thread.run_sync(clean.crash)
            await anyio.to_thread.run_sync(clean.start)
            with anyio.fail_after(15):  # psycopg's pool by itself: 1 + 2 + 4 + 8 + 16 s, one dead connection each
                async with anyio.create_task_group() as group:
                    for _ in range(at_once):
                        group.start_soon(app.job_manager.list_queues_async)


def test_a_sync_pool_goes_on_when_the_server_is_back(clean: OwnServer) -> None:
    with SyncPsycopgConnector(conninfo=clean.dsn, min_size=3) as connector:
        clean.crash()
        clean.start()
        for _ in range(5):
            assert connector.execute(statements.list_workers()) == []


async def test_a_long_outage_makes_nobody_wait_longer_afterwards(
    clean: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """psycopg's pool doubles its waits, and then gives up: ours begins anew, also for who waits already."""
    caplog.set_level(logging.WARNING, logger="psycopg.pool")
    app = make_app(clean.dsn, reconnect_timeout=0.5, min_size=2, max_size=4)

    def gave_up() -> bool:
        return sum("reconnection attempt" in record.getMessage() for record in caplog.records) >= 4

    async with app.open_async():
        await anyio.to_thread.run_sync(clean.crash)
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await app.job_manager.list_queues_async())

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(gave_up, "the pool's giving up")
            assert answers == []
            await anyio.to_thread.run_sync(clean.start)
            with anyio.fail_after(5):
                await until(lambda: answers, "an answer")


async def test_a_pool_without_a_free_connection(clean: OwnServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is the user's, and the user's own code holds its only connection: the worker waits for its turn."""
    app = make_app(clean.dsn, "asyncpg")

    @app.task(name="t")
    async def t() -> None: ...

    pool = asyncpg.create_pool(clean.dsn, min_size=1, max_size=1)
    options = {"stalled_worker_timeout": 4, "update_heartbeat_interval": 0.5}
    async with pool, app.open_async(pool), working(app, **options) as worker:
        await idle(worker)
        async with pool.acquire():
            with make_app(clean.dsn).open() as direct:
                job_id = await anyio.to_thread.run_sync(direct.configure_task("t").defer)
            await until(lambda: "no answer to" in caplog.text, "a statement that was given up")
        assert (await ended(app, job_id)).attempts == 1
    assert "free connection in the pool" in caplog.text


async def test_a_psycopg_pool_without_a_free_connection(clean: OwnServer, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(clean.dsn)

    @app.task(name="t")
    async def t() -> None: ...

    async with (
        psycopg_pool.AsyncConnectionPool(
            clean.dsn, min_size=1, max_size=1, timeout=0.5, open=False, kwargs={"autocommit": True}
        ) as pool,
        app.open_async(pool),
        working(app, fetch_job_polling_interval=0.1) as worker,
    ):
        await idle(worker)
        async with pool.connection():
            with make_app(clean.dsn).open() as direct:
                job_id = await anyio.to_thread.run_sync(direct.configure_task("t").defer)
            await until(lambda: "Fetching failed" in caplog.text, "a fetch that found no connection")
        assert (await ended(app, job_id)).attempts == 1


async def test_a_server_that_takes_no_writes_is_waited_for(
    app: App, clean: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As a standby does before it is promoted."""

    @app.task(name="t")
    async def t() -> None: ...

    async with working(app, fetch_job_polling_interval=0.1) as worker:
        await idle(worker)
        job_id = await t.configure(schedule_in={"seconds": 1}).defer_async()
        query(clean.dsn, "ALTER DATABASE app SET default_transaction_read_only = on")
        try:
            query(clean.dsn, KILL_ALL)
            await until(lambda: "read-only transaction" in caplog.text, "a refusal")
        finally:
            writing = f"{clean.dsn}&options=-c%20default_transaction_read_only%3Doff"
            query(writing, "ALTER DATABASE app RESET default_transaction_read_only")
        # No connection is terminated now: the worker itself drops those that refuse to write.
        assert (await ended(app, job_id)).status == "succeeded"
