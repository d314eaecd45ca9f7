"""Periodic tasks of a worker in this process."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import App, Blueprint, PsycopgConnector, Task, statements
from procrastinate_deps.statements import Statement, get_clock
from procrastinate_deps.worker import Worker, scheduler
from tests.integration.worker_helpers import make_app, one_shot, query, until, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps.periodic import PeriodicTask

S = "procrastinate_deps"
EVERY_SECOND = "* * * * * *"


@pytest.fixture
async def app(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    async with make_app(dsn, getattr(request, "param", "psycopg")).open_async() as app:
        yield app


both_drivers = pytest.mark.parametrize("app", ["psycopg", "asyncpg"], indirect=True)


class Ticks:
    """A task that notes the timestamps that it is called with."""

    def __init__(self, app: App | Blueprint, **options: Any) -> None:
        self.timestamps: list[int] = []

        async def tick(timestamp: int) -> None:
            self.timestamps.append(timestamp)

        declare: Any = app.task
        self.task: Task[..., Any, ...] = declare(name="tick", **options)(tick)

    async def more(self, count: int) -> None:
        wanted = len(self.timestamps) + count
        await until(lambda: len(self.timestamps) >= wanted, f"{count} more runs")


def deferred(dsn: str, name: str = "tick") -> list[int]:
    """The timestamps of the jobs, as they were deferred."""
    return [
        each[0]
        for each in query(
            dsn, f"SELECT (args ->> 'timestamp')::bigint FROM {S}.jobs WHERE task_name = %s ORDER BY id", name
        )
    ]


def early(dsn: str) -> list[tuple[Any, ...]]:
    """Jobs that were deferred before their period."""
    return query(dsn, f"SELECT id FROM {S}.jobs WHERE created_at < to_timestamp((args ->> 'timestamp')::bigint)")


async def now(app: App) -> float:
    return await app.execute_async(get_clock())


def hourly(second: float) -> str:
    """Each hour, at the minute of this second."""
    return f"{time.gmtime(second).tm_min} * * * *"


def with_max_delay(dsn: str, seconds: float) -> App:
    return App(PsycopgConnector(conninfo=dsn), periodic_defaults={"max_delay": seconds})


@both_drivers
async def test_each_second_once_and_promptly(app: App, dsn: str) -> None:
    ticks = Ticks(app)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with working(app):
        await ticks.more(4)
    first = ticks.timestamps[0]
    assert ticks.timestamps == list(range(first, first + len(ticks.timestamps)))
    assert deferred(dsn)[: len(ticks.timestamps)] == ticks.timestamps
    assert early(dsn) == []


async def test_several_workers_defer_each_period_once(app: App, dsn: str) -> None:
    ticks = Ticks(app)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with working(app, name="a"), working(app, name="b"), working(app, name="c"):
        await ticks.more(4)
    timestamps = deferred(dsn)
    assert timestamps == list(range(timestamps[0], timestamps[0] + len(timestamps)))


async def test_a_wrong_clock_of_the_host_changes_nothing(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    ticks = Ticks(app)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with working(app):
        await ticks.more(3)
    assert early(dsn) == []
    assert abs(ticks.timestamps[-1] - await now(app)) < 60


async def test_who_comes_too_early_is_told_the_time_and_comes_again(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, told = scheduler.DatabaseClock.tell, 0
    in_time: list[bool] = []
    defer = scheduler.Scheduler._defer

    def lie_every_other_time(self: scheduler.DatabaseClock, now: float) -> None:
        nonlocal told
        told += 1
        tell(self, now + 0.4 * (told % 2))

    async def noting(self: scheduler.Scheduler, periodic: PeriodicTask, period: int) -> bool:
        in_time.append(await defer(self, periodic, period))
        return in_time[-1]

    monkeypatch.setattr(scheduler.DatabaseClock, "tell", lie_every_other_time)
    monkeypatch.setattr(scheduler.Scheduler, "_defer", noting)
    ticks = Ticks(app)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with working(app):
        await ticks.more(4)
    assert in_time.count(False) >= 2, "it came in time"
    assert in_time.count(False) <= len(in_time) / 2 + 1, "it came again too early"
    assert early(dsn) == []
    assert ticks.timestamps == list(range(ticks.timestamps[0], ticks.timestamps[0] + len(ticks.timestamps)))


@pytest.mark.parametrize(("max_delay", "expected"), [(600, 0), (3600, 1)])
async def test_a_new_task_begins_with_its_latest_period(dsn: str, max_delay: int, expected: int) -> None:
    """If that is not too long ago; with earlier ones in no case."""
    app = with_max_delay(dsn, max_delay)
    ticks = Ticks(app)
    async with app.open_async():
        half_an_hour_ago = await now(app) - 1800
        app.periodic(cron=hourly(half_an_hour_ago))(ticks.task)
        await one_shot(app)
    period = int(half_an_hour_ago // 60 * 60)
    assert ticks.timestamps == [period] * expected


@pytest.mark.parametrize(("ago", "first_ago"), [(10, 9), (1000, 30)])
async def test_what_was_missed_is_made_up_for_as_far_back_as_max_delay(dsn: str, ago: int, first_ago: int) -> None:
    app = with_max_delay(dsn, 30)
    ticks = Ticks(app)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with app.open_async():
        await one_shot(app)
        # it may have deferred one more while it stopped
        query(dsn, f"DELETE FROM {S}.jobs")
        start = int(await now(app))
        query(dsn, f"UPDATE {S}.periodic_tasks SET last_timestamp = {start - ago}")
        ticks.timestamps.clear()
        await one_shot(app)
    # a busy machine may take some seconds to get there
    assert start - first_ago <= ticks.timestamps[0] <= start - first_ago + (0 if ago == 10 else 5)
    assert ticks.timestamps == list(range(ticks.timestamps[0], ticks.timestamps[-1] + 1))
    assert ticks.timestamps[-1] >= start


async def test_a_stopped_worker_and_the_next_one_leave_no_gap(app: App, dsn: str) -> None:
    ticks = Ticks(app)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with working(app):
        await ticks.more(1)
    last = deferred(dsn)[-1]
    await until(lambda: query(dsn, f"SELECT 1 WHERE now() > to_timestamp({last} + 3)"), "three seconds")
    async with working(app):
        await ticks.more(4)
    timestamps = deferred(dsn)
    assert timestamps == list(range(timestamps[0], timestamps[0] + len(timestamps)))


async def test_a_queueing_lock_that_waits_skips_the_period(
    app: App, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ticks = Ticks(app, queueing_lock="one", queue="nobody's")
    app.periodic(cron=EVERY_SECOND)(ticks.task)

    def skipped() -> list[logging.LogRecord]:
        return [each for each in caplog.records if getattr(each, "action", "") == "skip_periodic_task_queueing_lock"]

    async with working(app, queues=["others"]):
        await until(lambda: len(skipped()) >= 2, "two skipped periods")
        assert len(deferred(dsn)) == 1
        query(dsn, f"DELETE FROM {S}.jobs")
        await until(lambda: deferred(dsn), "the next job")
    assert deferred(dsn)[0] > skipped()[1].__dict__["timestamp"]


async def test_schedules_of_one_task_with_their_own_options(app: App, dsn: str) -> None:
    seen: set[str] = set()

    @app.periodic(cron=EVERY_SECOND, periodic_id="a", task_kwargs={"which": "a"}, priority=1)
    @app.periodic(cron=EVERY_SECOND, periodic_id="b", task_kwargs={"which": "b"}, priority=2)
    @app.task(name="tick")
    def tick(timestamp: int, which: str) -> None:
        seen.add(which)

    async with working(app):
        await until(lambda: seen == {"a", "b"}, "both")
    assert query(dsn, f"SELECT DISTINCT args ->> 'which', priority FROM {S}.jobs ORDER BY 1") == [("a", 1), ("b", 2)]


async def test_a_one_shot_worker_runs_what_is_due_and_stops(app: App) -> None:
    ticks = Ticks(app)
    app.periodic(cron="* * * * *")(ticks.task)
    await one_shot(app)
    await one_shot(app)
    assert 1 <= len(ticks.timestamps) <= 2, "two only when a minute has begun meanwhile"
    assert ticks.timestamps[0] % 60 == 0


async def test_a_blueprints_task(app: App) -> None:
    blueprint = Blueprint()
    ticks = Ticks(blueprint)
    blueprint.periodic(cron=EVERY_SECOND)(ticks.task)
    app.add_tasks_from(blueprint, namespace="bp")
    async with working(app):
        await ticks.more(1)
    (listed,) = await app.job_manager.list_periodic_tasks_async()
    assert listed.task_name == "bp:tick"


async def test_a_job_that_is_refused_harms_no_other(app: App, caplog: pytest.LogCaptureFixture) -> None:
    ticks = Ticks(app)
    with pytest.raises(ValueError, match="1 to 255 characters"):
        app.periodic(cron=EVERY_SECOND, periodic_id="long", queue="q" * 300)(ticks.task)
    app.periodic(cron=EVERY_SECOND, periodic_id="orphan", depends_on=[12345])(ticks.task)
    app.periodic(cron=EVERY_SECOND, periodic_id="no JSON", task_kwargs={"a": object()})(ticks.task)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with working(app):
        await ticks.more(3)
    errors = {
        (each.__dict__["periodic_id"], each.__dict__["action"]) for each in caplog.records if each.levelname == "ERROR"
    }
    assert errors == {
        ("orphan", "periodic_task_refused"),
        ("no JSON", "periodic_task_unusable"),
    }
    assert {each.periodic_id for each in await app.job_manager.list_periodic_tasks_async()} >= {"", "orphan"}


@both_drivers
async def test_lost_connections_lose_no_period(app: App, dsn: str) -> None:
    ticks = Ticks(app)
    app.periodic(cron=EVERY_SECOND)(ticks.task)
    async with working(app):
        for _ in range(3):
            await ticks.more(1)
            query(
                dsn,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        await ticks.more(3)
    timestamps = deferred(dsn)
    assert timestamps == list(range(timestamps[0], timestamps[0] + len(timestamps)))


async def test_without_periodic_tasks_nothing_is_asked(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def step(self: object) -> float:
        raise AssertionError("it went to work")

    monkeypatch.setattr(scheduler.Scheduler, "_step", step)
    Ticks(app)
    await one_shot(app)


async def test_the_clock_is_asked_when_nothing_has_told_it_for_long(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sleeps for at most that long: this host may have been asleep, and its clock with it."""
    asked: list[float] = []

    def asking() -> Statement[float]:
        asked.append(time.monotonic())
        return get_clock()

    monkeypatch.setattr(scheduler, "CLOCK_AGE_LIMIT_S", 0.05)
    monkeypatch.setattr(statements, "get_clock", asking)
    app.periodic(cron="0 0 1 1 *")(Ticks(app).task)
    async with working(app):
        await until(lambda: len(asked) >= 3, "three questions")


async def test_stop_ends_the_scheduler_between_two_periods(app: App) -> None:
    app.periodic(cron="0 0 1 1 *")(Ticks(app).task)
    worker = Worker(app, install_signal_handlers=False)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await until(lambda: worker._shift is not None and worker._shift._scheduler._next, "the first round")
            worker.stop()
