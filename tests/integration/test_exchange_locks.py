"""Ends and fetches in one statement, where jobs have locks and others hold rows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import psycopg
import pytest

from procrastinate_deps import JobContext, statements
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.verbs.base import one
from tests.integration.worker_helpers import ended, idle, make_app, query, until, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps import App

ENDS = "SELECT status::text, count(*), max(attempts) FROM procrastinate_deps.jobs GROUP BY 1 ORDER BY 1"


async def test_jobs_with_locks_are_not_starved_by_jobs_without(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str | None] = []
    assert isinstance(app.connector, AsyncConnector)
    execute = app.connector.execute_async

    async def slow(statement: Any, connection: Any = None) -> Any:
        """When an answer comes, another job has ended: there is no time without an end to record."""
        answer = await execute(statement, connection)
        if statement.name in ("fetch_jobs", "finish_and_fetch") and worker._shift is not None:
            runner = worker._shift._runner
            before = runner.ended
            await until(lambda: runner.ended > before or not runner.running, "the end of a job")
        return answer

    @app.task(name="endless", pass_context=True)
    async def endless(context: JobContext) -> None:
        runs.append(context.job.lock)
        # There is always a job without a lock that could start, and one that has just ended.
        if context.job.lock is None and "one" not in runs:
            await app.configure_task("endless").batch_defer_async({}, {})
            await anyio.sleep(0.001)

    async with working(app, concurrency=2) as worker:
        await idle(worker)
        await endless.batch_defer_async(*[{}] * 10)
        await until(lambda: len(runs) > 20, "a load")
        monkeypatch.setattr(app.connector, "execute_async", slow)
        # Just one: several could be all that a fetch looks at, and would stop everything else.
        job_id = await endless.configure(lock="one").defer_async()
        await until(lambda: "one" in runs, "the run of the one with the lock")
        assert (await ended(app, job_id)).status == "succeeded"


@pytest.mark.parametrize("first", ["psycopg", "asyncpg"])
async def test_two_workers_that_end_and_fetch_jobs_with_many_locks(
    dsn: str, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    inside: dict[str, int] = {}
    order: dict[str, list[int]] = {}
    together: list[str] = []
    apps = [make_app(dsn, first), make_app(dsn, "asyncpg")]

    def register(app: App) -> Callable[..., Any]:
        @app.task(name="locked", pass_context=True)
        async def locked(context: JobContext) -> None:
            lock = context.job.lock
            if lock is not None:
                inside[lock] = inside.get(lock, 0) + 1
                if inside[lock] > 1:
                    together.append(lock)
                order.setdefault(lock, []).append(context.job.id)
            await anyio.lowlevel.checkpoint()
            if lock is not None:
                inside[lock] -= 1

        return locked.configure

    configure, _ = [register(app) for app in apps]
    async with apps[0].open_async(), apps[1].open_async():
        ids: list[int] = []
        for n in range(300):
            lock = None if n % 5 == 0 else f"lock {n * 7 % 12}"
            ids.append(await configure(lock=lock).defer_async())
        async with working(apps[0], concurrency=8), working(apps[1], concurrency=8):
            for each in ids:
                assert (await ended(apps[0], each)).status == "succeeded"
    assert together == [], "two jobs with one lock ran at the same time"
    assert all(ran == sorted(ran) for ran in order.values())
    assert query(dsn, ENDS) == [("succeeded", 300, 1)]
    assert query(dsn, "SELECT * FROM procrastinate_deps.violations()") == []
    actions = {record.__dict__.get("action") for record in caplog.records if record.levelno >= logging.WARNING}
    assert actions <= {None}


async def test_the_session_keeps_its_lock_timeout(dsn: str) -> None:
    """Whether ends that are sent with a fetch are recorded or have to wait for too long."""
    connection = await asyncpg.connect(dsn, server_settings={"lock_timeout": "7s"})
    app = make_app(dsn)
    exchange = statements.finish_and_fetch([], "never", None, 1, 1)
    try:
        async with app.open_async():
            ids = await app.configure_task("t", allow_unknown=True).batch_defer_async({}, {})
            child = await app.configure_task("t", allow_unknown=True, depends_on=ids[0]).defer_async()
            worker = await app.job_manager.run_async(one(statements.register_worker("w", "h", 1, None, 1, "0")))
            jobs = await app.job_manager.run_async(one(statements.fetch_jobs(None, worker, 2)))
            claims = [job.claim for job in jobs]
            sql = app.connector._queries[exchange.name]
            values = (["succeeded"], [None], [None], "{}", "never", None, worker, 1)
            async with await psycopg.AsyncConnection.connect(dsn) as holder:
                await holder.execute("SELECT FROM procrastinate_deps.jobs WHERE id = %s FOR UPDATE", [child])
                for query_, longest_ms in ((sql, 1000), (app.connector._queries["finish_jobs"], None)):
                    given = values if query_ is sql else values[:-3]
                    began = await connection.fetchval("SELECT clock_timestamp()")
                    with pytest.raises(asyncpg.LockNotAvailableError):
                        await connection.fetch(query_, ids[:1], claims[:1], *given)
                    waited = (await connection.fetchval("SELECT clock_timestamp()")) - began
                    waited_ms = waited.total_seconds() * 1000
                    assert waited_ms >= 100
                    assert longest_ms is None or waited_ms < longest_ms
                    assert await connection.fetchval("SHOW lock_timeout") == "7s"
            async with connection.transaction():
                fetched = await connection.fetch(sql, ids[:1], claims[:1], *values)
                assert [row["id"] for row in fetched] == [child]
                assert await connection.fetchval("SHOW lock_timeout") == "7s"
            assert await connection.fetchval("SHOW lock_timeout") == "7s"
    finally:
        await connection.close()
