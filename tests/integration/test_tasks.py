"""Deferring, on a real database, by every connector."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import psycopg
import pytest

from procrastinate_deps import (
    AlreadyEnqueued,
    App,
    AsyncpgConnector,
    DependencyNotFound,
    Job,
    PsycopgConnector,
    Status,
    SyncPsycopgConnector,
)
from procrastinate_deps.exceptions import InvalidArguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from procrastinate_deps.tasks import Task

# libpq's URL of a socket folder has no host, and asyncpg reads it as well
CONNECTORS: dict[str, Any] = {
    "psycopg": lambda dsn: PsycopgConnector(conninfo=dsn),
    "asyncpg": lambda dsn: AsyncpgConnector(dsn=dsn),
}


def declare(app: App) -> Task[..., Any, ...]:
    @app.task(name="add", queue="sums", priority=2)
    def add(a: int, b: int = 0) -> int:
        return a + b

    return add


@pytest.fixture(params=CONNECTORS)
async def app(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[App]:
    app = App(CONNECTORS[request.param](dsn))
    async with app.open_async():
        yield app


@pytest.fixture(params=["sync", *CONNECTORS])
def sync_app(request: pytest.FixtureRequest, dsn: str) -> Iterator[App]:
    """Sync code, with a sync connector or with the twin of an async one."""
    app = App(SyncPsycopgConnector(conninfo=dsn) if request.param == "sync" else CONNECTORS[request.param](dsn))
    with app.open():
        yield app


async def job(app: App, job_id: int) -> Job:
    return await app.job_manager.get_job_async(job_id)


async def test_defer_async(app: App) -> None:
    job_id = await declare(app).defer_async(a=1, b=2)
    assert isinstance(job_id, int)
    deferred = await job(app, job_id)
    assert (deferred.task_name, deferred.task_kwargs, deferred.queue, deferred.priority, deferred.status) == (
        "add",
        {"a": 1, "b": 2},
        "sums",
        2,
        Status.TODO,
    )
    assert (deferred.run_when, deferred.lock, deferred.queueing_lock, deferred.scheduled_at) == (
        "all_finished",
        None,
        None,
        None,
    )


def test_defer(sync_app: App) -> None:
    job_id = declare(sync_app).defer(a=1)
    deferred = sync_app.job_manager.get_job(job_id)
    assert (deferred.task_name, deferred.task_kwargs, deferred.queue, deferred.status) == (
        "add",
        {"a": 1},
        "sums",
        "todo",
    )


async def test_everything_that_configure_takes(app: App) -> None:
    add = declare(app)
    parent = await add.defer_async(a=1)
    moment = datetime(2099, 1, 1, tzinfo=UTC)
    deferrer = add.configure(
        lock="l",
        queueing_lock="ql",
        schedule_at=moment,
        queue="q",
        priority=-5,
        depends_on=parent,
        run_when="any_failed",
    )
    deferred = await job(app, await deferrer.defer_async(a=1))
    assert (deferred.lock, deferred.queueing_lock, deferred.scheduled_at, deferred.queue, deferred.priority) == (
        "l",
        "ql",
        moment,
        "q",
        -5,
    )
    assert (deferred.run_when, deferred.status) == ("any_failed", Status.BLOCKED)
    assert await app.job_manager.get_parents_async(deferred.id) == {parent: "todo"}


async def test_a_deferrer_can_be_used_again(app: App) -> None:
    deferrer = declare(app).configure(priority=7, task_kwargs={"b": 1})
    ids = [await deferrer.defer_async(a=a) for a in range(3)]
    jobs = [await job(app, job_id) for job_id in ids]
    assert [(each.priority, each.task_kwargs) for each in jobs] == [(7, {"a": a, "b": 1}) for a in range(3)]
    assert ids == sorted(set(ids))


async def test_a_batch_async(app: App) -> None:
    ids = await declare(app).batch_defer_async(*({"a": a} for a in range(100)))
    assert ids == sorted(set(ids))
    assert [(await job(app, job_id)).task_kwargs for job_id in (ids[0], ids[99])] == [{"a": 0}, {"a": 99}]


def test_a_batch(sync_app: App) -> None:
    ids = declare(sync_app).batch_defer({"a": 1}, {"a": 2})
    assert [sync_app.job_manager.get_job(job_id).task_kwargs for job_id in ids] == [{"a": 1}, {"a": 2}]


async def test_a_batch_is_all_or_nothing(app: App) -> None:
    add = declare(app)
    with pytest.raises(AlreadyEnqueued):
        await add.configure(queueing_lock="ql").batch_defer_async({"a": 1}, {"a": 2})
    with pytest.raises(InvalidArguments, match="'a'"):
        await add.batch_defer_async({"a": 1}, {"a": object()})
    assert await app.job_manager.list_jobs_async() == []


async def test_a_batch_is_one_statement(app: App, dsn: str) -> None:
    """All of its jobs have the same transaction, which xmin is."""
    await declare(app).batch_defer_async({"a": 1}, {"a": 2}, {"a": 3})
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute("SELECT count(*), count(DISTINCT xmin::text) FROM procrastinate_deps.jobs")
        assert await cursor.fetchone() == (3, 1)


async def test_an_empty_batch_needs_no_database() -> None:
    add = declare(App(PsycopgConnector()))
    assert add.batch_defer() == []
    assert await add.batch_defer_async() == []


@pytest.mark.parametrize("depends_on", [None, []])
async def test_without_parents_a_job_is_runnable_at_once(app: App, depends_on: Any) -> None:
    child = await declare(app).configure(depends_on=depends_on, run_when="all_failed").defer_async(a=1)
    assert (await job(app, child)).status is Status.TODO


async def test_parents_mixed(app: App) -> None:
    add = declare(app)
    first, second = await add.batch_defer_async({"a": 1}, {"a": 2})
    child = await add.configure(depends_on=[second, await job(app, first), second]).defer_async(a=3)
    assert list(await app.job_manager.get_parents_async(child)) == [first, second]


async def test_a_parent_that_does_not_exist(app: App) -> None:
    add = declare(app)
    parent = await add.defer_async(a=1)
    with pytest.raises(DependencyNotFound) as raised:
        await add.configure(depends_on=[parent, 987654]).defer_async(a=1)
    assert raised.value.ids == (987654,)
    assert len(await app.job_manager.list_jobs_async()) == 1


async def test_a_tasks_own_rule_and_configures(app: App) -> None:
    @app.task(run_when="all_succeeded")
    def child() -> None: ...

    parent = await declare(app).defer_async(a=1)
    own = await child.configure(depends_on=parent).defer_async()
    other = await child.configure(depends_on=parent, run_when="none_failed").defer_async()
    assert [(await job(app, each)).run_when for each in (own, other)] == ["all_succeeded", "none_failed"]


async def test_a_job_of_a_task_unknown_here(app: App) -> None:
    job_id = await app.configure_task("elsewhere.task", queue="q").defer_async(x=[1, {"y": None}])
    deferred = await job(app, job_id)
    assert (deferred.task_name, deferred.queue, deferred.task_kwargs) == (
        "elsewhere.task",
        "q",
        {"x": [1, {"y": None}]},
    )


async def test_part_of_the_callers_transaction_psycopg(app: App, dsn: str) -> None:
    add = declare(app)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        lost = await add.configure(connection=connection).defer_async(a=1)
        await connection.rollback()
        kept = await add.configure(connection=connection).defer_async(a=2)
        await connection.commit()
    assert [each.id for each in await app.job_manager.list_jobs_async()] == [kept]
    assert lost != kept


async def test_part_of_the_callers_transaction_asyncpg(app: App, dsn: str) -> None:
    add = declare(app)
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            kept = await add.configure(connection=connection).defer_async(a=1)
        transaction = connection.transaction()
        await transaction.start()
        await add.configure(connection=connection).defer_async(a=2)
        await transaction.rollback()
    finally:
        await connection.close()
    assert [each.id for each in await app.job_manager.list_jobs_async()] == [kept]


def test_part_of_the_callers_transaction_sync(sync_app: App, dsn: str) -> None:
    add = declare(sync_app)
    with psycopg.connect(dsn) as connection:
        add.configure(connection=connection).defer(a=1)
        connection.rollback()
        kept = add.configure(connection=connection).defer(a=2)
    assert [each.id for each in sync_app.job_manager.list_jobs()] == [kept]


def test_a_callers_connection_needs_no_open_app(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        assert declare(App(PsycopgConnector())).configure(connection=connection).defer(a=1) > 0


async def test_sync_code_in_a_thread_of_an_app_open_for_async_code(app: App) -> None:
    job_id = await anyio.to_thread.run_sync(lambda: declare(app).defer(a=1))
    assert (await job(app, job_id)).task_kwargs == {"a": 1}


async def test_sync_code_in_the_event_loop_blocks_but_works(app: App) -> None:
    job_id = declare(app).defer(a=1)
    assert (await job(app, job_id)).task_kwargs == {"a": 1}


@pytest.mark.parametrize(("level", "shown"), [(logging.INFO, False), (logging.DEBUG, True)])
async def test_arguments_are_logged_only_at_debug(
    app: App, caplog: pytest.LogCaptureFixture, level: int, shown: bool
) -> None:
    with caplog.at_level(level, logger="procrastinate_deps"):
        job_id = await app.configure_task("t", lock="l").defer_async(password="s3cret")
        ids = await app.configure_task("t").batch_defer_async({"password": "s3cret"}, {})
    records = [record for record in caplog.records if record.name.startswith("procrastinate_deps")]
    assert all(hasattr(record, "action") for record in records)
    assert ("s3cret" in str([vars(record) for record in records])) is shown
    infos = [record for record in records if record.levelno == logging.INFO]
    assert [record.getMessage() for record in infos] == [f"Deferred job {job_id}: t", "Deferred 2 jobs: t"]
    assert [(vars(record)["action"], vars(record)["job_ids"]) for record in infos] == [
        ("jobs_deferred", [job_id]),
        ("jobs_deferred", ids),
    ]
