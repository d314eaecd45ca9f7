"""Ends that can't be recorded at once."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps import JobContext, NotStored
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.retry import BaseRetryStrategy, RetryDecision
from tests.integration.worker_helpers import (
    ended,
    idle,
    job_when,
    make_app,
    one_shot,
    until,
    working,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps import App
    from procrastinate_deps.jobs import Job
    from procrastinate_deps.statements import Statement


# Ends that can't be recorded at once


# An open transaction of someone else


async def test_an_open_transaction_with_a_new_child_delays_its_parents_end(
    app: App, dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procrastinate_deps.worker.finisher.SAY_WHO_HOLDS_AFTER_S", 0.2)
    go_on = anyio.Event()

    @app.task
    async def parent() -> None:
        await go_on.wait()

    @app.task
    async def other() -> None: ...

    async with working(app) as worker:
        await idle(worker)
        parent_id = await parent.defer_async()
        await job_when(app, parent_id, "doing")
        async with await psycopg.AsyncConnection.connect(dsn, application_name="slowcoach") as conn:
            child_id = await other.configure(depends_on=parent_id, connection=conn).defer_async()
            go_on.set()
            # The slot is free meanwhile, and other ends are recorded.
            assert (await ended(app, await other.defer_async())).status == "succeeded"
            await until(lambda: any(r.__dict__.get("action") == "job_held" for r in caplog.records), "who holds it")
            assert await app.job_manager.get_job_status_async(parent_id) == "doing"
            await conn.commit()
        assert (await ended(app, parent_id)).status == "succeeded"
        child = await ended(app, child_id)
        assert child.status == "succeeded"
    held = [r for r in caplog.records if r.__dict__.get("action") == "job_held"]
    assert len(held) == 1
    assert "slowcoach" in held[0].getMessage()
    assert (await ended(app, parent_id)).attempts == 1


async def test_a_cascade_that_has_to_wait_holds_up_no_other_end(app: App, dsn: str) -> None:
    """The end of `first` would cancel its child, to which an open transaction has just added a child of its own."""
    go_on = anyio.Event()

    @app.task
    async def fail() -> None:
        await go_on.wait()
        raise ValueError

    @app.task
    async def wait() -> None:
        await go_on.wait()

    async with working(app, concurrency=3) as worker:
        await idle(worker)
        first, *others = [await fail.defer_async(), await wait.defer_async(), await wait.defer_async()]
        doomed = await wait.configure(depends_on=first, run_when="all_succeeded").defer_async()
        for each in (first, *others):
            await job_when(app, each, "doing")
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            last = await wait.configure(depends_on=doomed, connection=conn).defer_async()
            # All three end in one batch, which the first of them spoils.
            go_on.set()
            for each in others:
                assert (await ended(app, each)).status == "succeeded"
            assert await app.job_manager.get_job_status_async(first) == "doing"
            await conn.commit()
        jobs = [await ended(app, each) for each in (first, doomed, last)]
    assert [job.status for job in jobs] == ["failed", "cancelled", "succeeded"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_result_that_the_database_refuses_keeps_no_job_from_ending(dsn: str, driver: str) -> None:
    app = make_app(dsn, driver, json_dumps=lambda value: "{broken" if value == "broken" else json.dumps(value))

    @app.task
    async def give(value: str) -> str:
        return value

    async with app.open_async():
        ids = await give.batch_defer_async({"value": "broken"}, {"value": "sound"})
        await one_shot(app, concurrency=2)
        jobs = [await ended(app, each) for each in ids]
    assert [job.status for job in jobs] == ["succeeded", "succeeded"]
    assert isinstance(jobs[0].result, NotStored)
    assert jobs[1].result == "sound"


class DecisionOfNothing(RetryDecision):
    def __init__(self) -> None: ...


def changed(name: str, value: object) -> RetryDecision:
    decision = RetryDecision()
    setattr(decision, name, value)
    return decision


SPOILT: dict[str, Callable[[], RetryDecision]] = {
    "not sendable": DecisionOfNothing,
    "priority": lambda: changed("priority", 10**12),
    "no number": lambda: changed("priority", "high"),
    "queue": lambda: changed("queue", ""),
    "NUL": lambda: changed("queue", "a\0b"),
    "lock": lambda: changed("lock", "x" * 10_000_000),
}


@pytest.mark.parametrize("spoilt", SPOILT)
async def test_a_retry_that_can_not_be_recorded_is_a_failure_and_spoils_no_other_end(app: App, spoilt: str) -> None:
    runs: list[int] = []
    together = anyio.Event()

    class Spoiling(BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
            return SPOILT[spoilt]()

    async def run(context: JobContext) -> None:
        runs.append(context.job.id)
        if len(runs) == 3:
            together.set()
        await together.wait()

    @app.task(retry=Spoiling(), pass_context=True)
    async def bad(context: JobContext) -> None:
        await run(context)
        raise ValueError("the task's own")

    good = app.task(name="good", pass_context=True)(run)
    ids = [await bad.defer_async(), await good.defer_async(), await good.defer_async()]
    await one_shot(app, concurrency=3)
    jobs = [await ended(app, each) for each in ids]
    assert [job.status for job in jobs] == ["failed", "succeeded", "succeeded"]
    assert sorted(runs) == ids
    assert jobs[0].error is not None
    assert jobs[0].error.startswith("The job can't be retried as was decided: ")
    assert "ValueError: the task's own" in jobs[0].error


@pytest.mark.parametrize("sqlstate", ["0A000", "28P01", "26000", "42501"])
async def test_an_error_that_is_the_servers_makes_no_failure_of_a_retry(
    app: App, sqlstate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = app.connector.execute_async  # type: ignore[union-attr]
    refused: list[str] = []

    async def refusing(statement: Statement[Any], connection: Any = None) -> Any:
        if statement.name in ("finish_jobs", "finish_and_fetch") and len(refused) < 4:
            refused.append(statement.name)
            raise ConnectorException("not now", sqlstate=sqlstate)
        return await execute(statement, connection)

    @app.task(retry=1, pass_context=True)
    async def second_time(context: JobContext) -> str:
        if context.job.attempts == 0:
            raise ValueError("the first time")
        return "done"

    monkeypatch.setattr(app.connector, "execute_async", refusing)
    job_id = await second_time.defer_async()
    await one_shot(app)
    assert len(refused) == 4
    assert (await ended(app, job_id)).result == "done"


async def test_a_stopping_worker_waits_for_held_ends_no_longer_than_for_jobs(app: App, dsn: str) -> None:
    go_on = anyio.Event()

    @app.task
    async def parent() -> None:
        await go_on.wait()

    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        async with working(app, shutdown_graceful_timeout=0.5) as worker:
            await idle(worker)
            parent_id = await parent.defer_async()
            await job_when(app, parent_id, "doing")
            child_id = await parent.configure(depends_on=parent_id, connection=conn).defer_async()
            go_on.set()
            await until(lambda: worker._shift is not None and worker._shift._finisher._late, "an end that is held")
            began = time.monotonic()
        assert time.monotonic() - began < 5
        assert await app.job_manager.get_job_status_async(parent_id) == "doing"
        await conn.commit()
    # The worker has left, so that the next one takes the job back.
    async with working(app, stalled_worker_timeout=3, update_heartbeat_interval=0.2):
        assert (await ended(app, child_id)).status == "succeeded"
    assert (await ended(app, parent_id)).rescues == 1
