"""What wakes a worker, in this process, on a real database."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import JobContext, RetryStrategy
from procrastinate_deps.connectors.base import AsyncConnector
from tests.integration.worker_helpers import (
    Overlap,
    ended,
    events,
    idle,
    job_when,
    query,
    until,
    working,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import App


# Milliseconds, as a rule; but the machine may be busy, and whatever was not announced takes minutes here.
PROMPTLY = timedelta(seconds=3)


# Waking up


async def test_a_job_deferred_to_an_idle_worker_starts_at_once(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    async with working(app) as worker:
        await idle(worker)
        job = await ended(app, await nothing.defer_async())
    assert job.started_at is not None
    assert job.started_at - job.created_at < PROMPTLY


@pytest.mark.parametrize("payload", ["", "[]", "[" * 7900])
async def test_who_else_announces_something_there_disturbs_no_worker(app: App, dsn: str, payload: str) -> None:
    @app.task
    async def nothing() -> None: ...

    async with working(app) as worker:
        await idle(worker)
        query(dsn, "SELECT pg_notify('procrastinate_deps', %s)", payload)
        assert (await ended(app, await nothing.defer_async())).status == "succeeded"


@pytest.mark.parametrize("how", ["finished by hand", "finished by this worker", "deleted"])
async def test_a_child_of_an_idle_worker_starts_within_milliseconds(app: App, dsn: str, how: str) -> None:
    @app.task
    async def nothing() -> None: ...

    here = how == "finished by this worker"
    async with working(app, queues=["mine"]) as worker:
        parent = await nothing.configure(
            queue="mine" if here else "elsewhere", schedule_in={"seconds": 0.3}
        ).defer_async()
        child = await nothing.configure(queue="mine", depends_on=parent).defer_async()
        await idle(worker)
        released = datetime.now(UTC)
        match how:
            case "finished by hand":
                query(dsn, "UPDATE procrastinate_deps.jobs SET status = 'cancelled' WHERE id = %s", parent)
            case "deleted":
                query(dsn, "DELETE FROM procrastinate_deps.jobs WHERE id = %s", parent)
            case _:
                released = (await ended(app, parent)).finished_at or released
        job = await ended(app, child)
    assert job.started_at is not None
    assert job.started_at - released < PROMPTLY


@pytest.mark.parametrize("question", ["fetch_jobs", "next_due"])
async def test_an_announcement_while_an_answer_is_under_way_is_not_lost(
    app: App, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    """The worker must forget earlier announcements before it asks, not after the answers."""

    @app.task
    async def nothing() -> None: ...

    deferred: list[int] = []
    assert isinstance(app.connector, AsyncConnector)
    execute = app.connector.execute_async
    async with working(app) as worker:
        await idle(worker)
        shift = worker._shift
        assert shift is not None

        async def slow_answer(statement: Any, connection: Any = None) -> Any:
            answer = await execute(statement, connection)
            if statement.name == question and not deferred:
                # The answer is on its way: the database knew of nothing, and then there is a job.
                assert not answer
                deferred.append(await nothing.defer_async())
                await until(shift._state.fetch.is_set, "the announcement")
            return answer

        monkeypatch.setattr(app.connector, "execute_async", slow_answer)
        shift._state.fetch.set()
        await until(lambda: deferred, "a fetch")
        assert (await ended(app, deferred[0])).status == "succeeded"


async def test_a_job_starts_when_its_time_comes(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    late: list[float] = []
    async with working(app) as worker:
        await idle(worker)
        for _ in range(5):
            job = await ended(app, await nothing.configure(schedule_in={"seconds": 0.3}).defer_async())
            assert job.started_at is not None
            assert job.scheduled_at is not None
            late.append((job.started_at - job.scheduled_at).total_seconds())
    assert min(late) >= 0
    # the best of five, since the machine may be busy
    assert min(late) < 0.1


async def test_a_retry_without_a_wait_is_immediate(app: App) -> None:
    started: list[float] = []

    @app.task(retry=RetryStrategy(max_attempts=2), pass_context=True)
    async def fail(context: JobContext) -> int:
        started.append(time.monotonic())
        if context.attempt <= 2:
            raise ValueError(f"attempt {context.attempt}")
        return context.attempt

    async with working(app, concurrency=2) as worker:
        await idle(worker)
        job = await ended(app, await fail.defer_async())
    assert (job.status, job.result, job.attempts) == ("succeeded", 3, 3)
    assert started[2] - started[0] < 5
    assert await events(app, job.id) == ["attempt_failed", "attempt_failed"]


async def test_a_retry_waits_as_its_strategy_says(app: App) -> None:
    started: list[float] = []

    @app.task(retry=RetryStrategy(max_attempts=1, wait=0.4))
    async def fail() -> None:
        started.append(time.monotonic())
        raise ValueError("again")

    async with working(app) as worker:
        await idle(worker)
        job = await ended(app, await fail.defer_async())
    assert job.status == "failed"
    assert 0.35 < started[1] - started[0] < 10


async def test_jobs_of_one_lock_run_one_at_a_time_in_order_and_hand_it_over_at_once(app: App) -> None:
    overlap, order = Overlap(), []

    @app.task(lock="one")
    async def locked(name: int) -> None:
        with overlap:
            order.append(name)
            await anyio.sleep(0.01)

    async with working(app, concurrency=4) as worker:
        await idle(worker)
        began = time.monotonic()
        ids = await locked.batch_defer_async(*[{"name": n} for n in range(6)])
        urgent = await locked.configure(priority=1).defer_async(name=100)
        for each in (*ids, urgent):
            assert (await ended(app, each)).status == "succeeded"
    assert overlap.most == 1
    assert [name for name in order if name < 100] == list(range(6))
    assert order.index(100) <= 2
    assert time.monotonic() - began < 5


async def test_polling_finds_what_is_not_announced(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    async with working(app, listen_notify=False, fetch_job_polling_interval=0.1) as worker:
        await idle(worker)
        assert (await ended(app, await nothing.defer_async())).status == "succeeded"


async def test_the_listener_comes_back_when_its_connection_was_terminated(app: App, dsn: str) -> None:
    @app.task
    async def nothing() -> None: ...

    def listening() -> set[int]:
        rows = query(
            dsn, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %%'"
        )
        return {row[0] for row in rows}

    async with working(app) as worker:
        await idle(worker)
        before = listening()
        assert len(before) == 1
        query(dsn, "SELECT pg_terminate_backend(%s)", *before)
        await until(lambda: listening() - before, "a new listening connection")
        await idle(worker)
        job = await ended(app, await nothing.defer_async())
    assert job.started_at is not None
    assert job.started_at - job.created_at < PROMPTLY


async def test_what_was_announced_while_the_listener_was_deaf_is_found_when_it_hears_again(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    async def nothing() -> None: ...

    assert isinstance(app.connector, AsyncConnector)
    listen = app.connector.listen
    deferred: list[int] = []

    @contextlib.asynccontextmanager
    async def listen_late(channel: str, listen_dsn: str | None) -> AsyncIterator[Any]:
        deferred.append(await nothing.defer_async())
        async with listen(channel, listen_dsn) as listener:
            yield listener

    async with working(app) as worker:
        await idle(worker)
        monkeypatch.setattr(app.connector, "listen", listen_late)
        query(
            dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ILIKE 'listen %%'",
        )
        await until(lambda: deferred, "the next try to listen")
        assert (await ended(app, deferred[0])).status == "succeeded"


async def test_a_worker_outlives_the_loss_of_all_its_connections(app: App, dsn: str) -> None:
    going_on = anyio.Event()

    @app.task
    async def wait() -> None:
        await going_on.wait()

    async with working(app, concurrency=2, update_heartbeat_interval=0.5) as worker:
        await idle(worker)
        job_id = await wait.defer_async()
        await job_when(app, job_id, "doing")
        query(
            dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        going_on.set()
        await until(
            lambda: query(dsn, "SELECT 1 FROM procrastinate_deps.jobs WHERE status = 'succeeded'"), "the job's end"
        )
    assert query(dsn, "SELECT attempts FROM procrastinate_deps.jobs") == [(1,)]
