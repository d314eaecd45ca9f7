"""What runs come to, minute by minute: counted by workers, added to job_stats, read for charts."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps import App, statements
from procrastinate_deps.durations import JobStats
from procrastinate_deps.worker import statistics
from tests.integration.worker_helpers import DEADLINE_S, ended, job_when, make_app, one_shot, query, until, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from procrastinate_deps.statements import Statement

S = "procrastinate_deps"
EVER = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["psycopg", "asyncpg"])
async def app(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    app = make_app(dsn, request.param)

    @app.task(name="succeed", queue="q")
    async def succeed() -> None: ...

    @app.task(name="fail")
    async def fail() -> None:
        raise ValueError

    @app.task(name="retry", retry=1)
    def retry() -> None:
        raise ValueError

    async with app.open_async():
        yield app


@pytest.fixture
def sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "SEND_INTERVAL_S", 0.05)


async def defer(app: App, task: str, count: int = 1) -> list[int]:
    return await app.tasks[task].batch_defer_async(*[{}] * count)


async def run(app: App, statement: Statement[Any]) -> Any:
    return await app.connector.execute_async(statement)  # type: ignore[union-attr]


async def counts(app: App, **filters: Any) -> dict[tuple[str | None, str | None, str | None], int]:
    total: dict[tuple[str | None, str | None, str | None], int] = {}
    for each in await app.job_manager.get_stats_async(EVER, **filters):
        key = (each.queue, each.task_name, each.status)
        total[key] = total.get(key, 0) + each.runs
    return total


async def until_counted(app: App, runs: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (counted := sum((await counts(app)).values())) < runs:
        if time.monotonic() > deadline:
            raise AssertionError(f"{counted} run(s) are counted, not {runs}, after {DEADLINE_S} s")
        await anyio.sleep(0.02)


def row(**columns: Any) -> dict[str, Any]:
    run = {"run_sum": 3.0, "run_min": 1.0, "run_max": 2.0, "run_histogram": [0, 1, 1]}
    wait = {"wait_sum": 0.3, "wait_min": 0.1, "wait_max": 0.2, "wait_histogram": [2]}
    return {"queue": "q", "task_name": "t", "status": "succeeded", "runs": 2, **run, **wait, **columns}


# From a worker


async def test_a_worker_adds_its_numbers_when_it_stops(app: App) -> None:
    for task, count in (("succeed", 600), ("fail", 2), ("retry", 1)):
        await defer(app, task, count)
    await one_shot(app, concurrency=10)
    assert await counts(app) == {
        ("q", "succeed", "succeeded"): 600,
        ("default", "fail", "failed"): 2,
        ("default", "retry", "todo"): 1,
        ("default", "retry", "failed"): 1,
    }
    stats = await app.job_manager.get_stats_async(EVER, task="succeed")
    for each in stats:
        assert each.start.tzinfo is UTC
        assert each.start.second == 0
        for durations in (each.run, each.wait):
            assert sum(durations.histogram) == each.runs
            assert 0 <= durations.min_s <= durations.mean_s <= durations.max_s < 60
            assert durations.min_s <= durations.percentile(99) <= durations.max_s


@pytest.mark.usefixtures("sent_at_once")
async def test_workers_add_to_the_same_rows_while_they_work(app: App) -> None:
    async with working(app, name="one"), working(app, name="other"):
        for runs in (10, 20, 30):
            await defer(app, "succeed", 10)
            await until_counted(app, runs)


async def test_a_run_that_was_put_back_is_not_counted(app: App) -> None:
    @app.task(name="wait")
    async def wait() -> None:
        await anyio.sleep_forever()

    job_id = await wait.defer_async()
    async with working(app, shutdown_graceful_timeout=0):
        await job_when(app, job_id, "doing")
    assert (await job_when(app, job_id, "todo")).attempts == 0
    assert await counts(app) == {}


async def test_a_job_waits_from_when_it_was_ready(app: App, dsn: str) -> None:
    """Not from when it was deferred: its parent had to end, or its time to come, or its retry was to be waited for."""
    [parent] = await defer(app, "fail")
    await app.tasks["succeed"].configure(depends_on=parent).defer_async()
    scheduled = await app.tasks["succeed"].configure(schedule_in={"hours": 1}).defer_async()
    [old] = await defer(app, "retry")
    an_hour = f"UPDATE {S}.jobs SET created_at = now() - interval '1 h'"
    query(dsn, an_hour)
    query(dsn, f"UPDATE {S}.jobs SET scheduled_at = now() - interval '2 s' WHERE id = %s", scheduled)
    await one_shot(app)
    await ended(app, old)
    [succeeded] = await app.job_manager.get_stats_async(EVER, task="succeed", step=86400 * 365)
    assert succeeded.runs == 2
    assert succeeded.wait.max_s < 60
    [failed] = await app.job_manager.get_stats_async(EVER, task="fail", step=86400 * 365)
    assert 3600 <= failed.wait.min_s < 3660
    statuses = {each.status: each for each in await app.job_manager.get_stats_async(EVER, task="retry")}
    assert statuses["todo"].wait.min_s >= 3600  # type: ignore[index]
    assert statuses["failed"].wait.max_s < 60  # type: ignore[index]


@pytest.mark.usefixtures("sent_at_once")
async def test_numbers_that_can_not_be_sent_are_kept(app: App, dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    async with working(app):
        with psycopg.connect(dsn) as holder:
            holder.execute(f"LOCK TABLE {S}.job_stats".encode())
            await defer(app, "succeed", 3)
            await until(lambda: "Numbers can't be sent now" in caplog.text, "the warning")
            await defer(app, "succeed", 4)
            await until(lambda: ends(dsn) == 7, "all jobs' ends")
        await until_counted(app, 7)
    assert await counts(app) == {("q", "succeed", "succeeded"): 7}


def ends(dsn: str) -> int:
    [(count,)] = query(dsn, f"SELECT count(*) FROM {S}.jobs WHERE status = 'succeeded'")
    return int(count)


@pytest.mark.usefixtures("sent_at_once")
async def test_no_more_of_them_are_kept_than_there_is_room_for(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(statistics, "UNSENT_STEP_S", 0.0)
    monkeypatch.setattr(statistics, "MAX_UNSENT_ROWS", 2)
    query(dsn, f"ALTER FUNCTION {S}.add_job_stats SET lock_timeout = '20ms'")
    runs = 0
    async with working(app):
        with psycopg.connect(dsn) as holder, anyio.fail_after(DEADLINE_S):
            holder.execute(f"LOCK TABLE {S}.job_stats".encode())
            while "are dropped" not in caplog.text:
                [job_id] = await defer(app, "succeed")
                await ended(app, job_id)
                runs += 1
        await until(lambda: query(dsn, f"SELECT FROM {S}.job_stats"), "the rest")
    assert 1 <= sum((await counts(app)).values()) < runs


async def test_a_database_that_refuses_them_stops_no_worker(
    app: App, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    query(dsn, f"DROP FUNCTION {S}.add_job_stats")
    [job_id] = await defer(app, "succeed")
    await one_shot(app)
    assert (await ended(app, job_id)).status == "succeeded"
    assert caplog.text.count("The database refuses this worker's numbers") == 1


async def test_names_made_at_run_time_do_not_flood_the_table(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MAX_TALLIES", 3)
    for number in range(10):
        await app.configure_task("succeed", queue=f"of-user-{number}").defer_async()
    await one_shot(app)
    found = await counts(app)
    assert sum(found.values()) == 10
    assert found["", "", "succeeded"] == 7


@pytest.mark.usefixtures("sent_at_once")
async def test_old_numbers_are_deleted_by_workers(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "PRUNE_INTERVAL_S", 0.1)
    monkeypatch.setattr(statistics, "PRUNE_BATCH", 2)
    worker = await run(app, statements.register_worker("w", "h", 1, None, 1, "0"))
    days = [0, 6, 8, 9, 10, 11, 12]
    for number, age in enumerate(days, 1):
        await run(app, statements.add_job_stats(worker, number, age * 86400, json.dumps([row()])))
    async with working(app):
        await until(lambda: len(query(dsn, f"SELECT FROM {S}.job_stats")) == 2, "only young numbers are left")
    [newest, other] = query(dsn, f"SELECT now() - minute FROM {S}.job_stats ORDER BY minute DESC")
    assert newest[0] < other[0] < timedelta(days=7)


# Adding and reading


@pytest.fixture
async def worker_id(app: App) -> int:
    registered: int = await run(app, statements.register_worker("w", "h", 1, None, 1, "0"))
    return registered


async def test_numbers_add_up(app: App, worker_id: int) -> None:
    more = row(runs=1, run_sum=9.0, run_min=9.0, run_max=9.0, run_histogram=[0, 0, 0, 0, 1], wait_histogram=[0, 1])
    for number, stats in enumerate(([row(), row(status="failed")], [more]), 1):
        assert await run(app, statements.add_job_stats(worker_id, number, 120, json.dumps(stats))) is True
    assert await counts(app) == {("q", "t", "succeeded"): 3, ("q", "t", "failed"): 2}
    by_status = await app.job_manager.get_stats_async(EVER, step=timedelta(days=7), by=["status"])
    [all_of_it] = [each for each in by_status if each.status == "succeeded"]
    assert (all_of_it.queue, all_of_it.task_name, all_of_it.runs) == (None, None, 3)
    assert (all_of_it.run.sum_s, all_of_it.run.min_s, all_of_it.run.max_s) == (12.0, 1.0, 9.0)
    assert list(all_of_it.run.histogram) == [0, 1, 1, 0, 1]
    assert list(all_of_it.wait.histogram)[:2] == [2, 1]


async def test_what_is_sent_twice_counts_once(app: App, worker_id: int) -> None:
    first = statements.add_job_stats(worker_id, 1, 0, json.dumps([row()]))
    assert await run(app, first) is True
    assert await run(app, first) is False
    assert await run(app, statements.add_job_stats(worker_id, 2, 0, json.dumps([row()]))) is True
    assert sum((await counts(app)).values()) == 4
    # of a worker that is forgotten by now
    assert await run(app, statements.add_job_stats(worker_id + 1, 1, 0, json.dumps([row()]))) is True


async def test_workers_that_add_at_once_do_not_deadlock(app: App, dsn: str) -> None:
    keys = [row(task_name=f"t{number}") for number in range(20)]
    errors: list[BaseException] = []

    def add(workers_rows: list[dict[str, Any]]) -> None:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                for batch in range(1, 31):
                    connection.execute(
                        f"SELECT {S}.add_job_stats(-1, %s, '0', %s::text::jsonb)".encode(),
                        [batch, json.dumps(workers_rows)],
                    )
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=add, args=[rows]) for rows in (keys, keys[::-1], keys)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert errors == []
    assert sum((await counts(app)).values()) == 3 * 30 * 20 * 2


async def test_reading_by_time_and_kind(app: App, worker_id: int) -> None:
    now = datetime.now(UTC)
    stats = [row(), row(queue="r"), row(task_name="u", status="failed", runs=5)]
    for number, hours in enumerate((0, 5, 30), 1):
        await run(app, statements.add_job_stats(worker_id, number, hours * 3600, json.dumps(stats)))

    async def runs(since: datetime, **options: Any) -> list[int]:
        return [each.runs for each in await app.job_manager.get_stats_async(since, **options)]

    assert await runs(EVER, step=60, by=()) == [9, 9, 9]
    assert await runs(now - timedelta(hours=10), step=60, by=()) == [9, 9]
    assert await runs(EVER, until=now - timedelta(hours=10), by=()) == [9]
    assert await runs(EVER, queue="r") == [2, 2, 2]
    assert await runs(EVER, task="u", by=()) == [5, 5, 5]
    by_queue: list[JobStats] = await app.job_manager.get_stats_async(now - timedelta(hours=1), by=["queue"])
    assert [(each.queue, each.task_name, each.status, each.runs) for each in by_queue] == [
        ("q", None, None, 7),
        ("r", None, None, 2),
    ]
    [without] = await app.job_manager.get_stats_async(now - timedelta(hours=1), by=(), histograms=False)
    assert (without.runs, without.run.mean_s, without.wait.max_s) == (9, 1.0, 0.2)
    with pytest.raises(ValueError, match="histograms=True"):
        without.run.percentile(50)
    # the step that it begins in is counted whole
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    daily = await app.job_manager.get_stats_async(now - timedelta(seconds=1), step=timedelta(days=1), by=())
    assert [each.start for each in daily] == [day]


@pytest.fixture
def manager(dsn: str) -> Iterator[Any]:
    with make_app(dsn).open() as app:
        yield app.job_manager


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"step": 90}, "step=90: pass a whole number of minutes"),
        ({"step": 0}, "step=0"),
        ({"by": "queue"}, "by='queue'"),
        ({"by": ["worker"]}, "worker"),
        ({"until": datetime(2026, 1, 1)}, "until=.* has no time zone"),  # noqa: DTZ001
    ],
)
def test_what_can_not_be_read(manager: Any, options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        manager.get_stats(EVER, **options)
    assert manager.get_stats(EVER) == []
