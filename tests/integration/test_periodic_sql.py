"""The database's side of periodic tasks: each period once, whoever comes, and none before its time."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.exceptions import AlreadyEnqueued, TaskNotFound
from procrastinate_deps.jobs import JobSpec, PeriodicOutcome, PeriodicSpec
from procrastinate_deps.statements import defer_periodic_job, get_clock, register_periodic_tasks
from tests.integration.worker_helpers import query
from tests.integration.worker_process import wait_for_row

if TYPE_CHECKING:
    from collections.abc import Iterator

S = "procrastinate_deps"


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


def spec(name: str = "t", periodic_id: str = "", **job: Any) -> PeriodicSpec:
    return PeriodicSpec(periodic_id=periodic_id, cron="* * * * * *", timezone="UTC", job=JobSpec(task_name=name, **job))


def defer(app: App, period: int, task: PeriodicSpec | None = None) -> PeriodicOutcome:
    return app.execute(defer_periodic_job(task or spec(), period)).outcome


def timestamps(dsn: str, name: str = "t") -> list[int]:
    jobs = query(dsn, f"SELECT (args ->> 'timestamp')::bigint FROM {S}.jobs WHERE task_name = %s ORDER BY id", name)
    return [each[0] for each in jobs]


def test_a_period_is_deferred_once_and_none_before_an_earlier_one(app: App, dsn: str) -> None:
    assert [defer(app, each) for each in (100, 100, 99, 101)] == ["deferred", "taken", "taken", "deferred"]
    assert timestamps(dsn) == [100, 101]


def test_each_task_and_each_id_has_its_own_periods(app: App, dsn: str) -> None:
    for each in (spec(), spec(periodic_id="other"), spec("u")):
        assert defer(app, 100, each) == "deferred"
        assert defer(app, 100, each) == "taken"
    assert (timestamps(dsn), timestamps(dsn, "u")) == ([100, 100], [100])


def test_by_the_databases_clock_none_is_early(app: App, dsn: str) -> None:
    now = app.execute(get_clock())
    assert defer(app, int(now) + 60) == "early"
    assert timestamps(dsn) == []
    assert query(dsn, f"SELECT count(*) FROM {S}.periodic_tasks") == [(0,)]
    assert defer(app, int(now)) == "deferred"


def test_the_answer_tells_the_time(app: App) -> None:
    before = app.execute(get_clock())
    told = [app.execute(defer_periodic_job(spec(), period)).clock for period in (100, 100, 10**11)]
    state = app.execute(register_periodic_tasks([spec(), spec("u")]))
    assert before < told[0] < told[1] < told[2] < state.clock < app.execute(get_clock())
    assert state.last == {("t", ""): 100, ("u", ""): None}


def test_the_job_is_as_configured_and_has_the_timestamp(app: App, dsn: str) -> None:
    job: dict[str, Any] = {"task_kwargs": {"a": 1, "timestamp": 5}, "queue": "q", "priority": 4, "lock": "l"}
    defer(app, 100, spec(**job))
    assert query(dsn, f"SELECT args, queue, priority, lock FROM {S}.jobs") == [
        ({"a": 1, "timestamp": 100}, "q", 4, "l")
    ]


def test_a_queueing_lock_that_is_taken_skips_the_period_for_good(app: App, dsn: str) -> None:
    task = spec(queueing_lock="one")
    assert [defer(app, each, task) for each in (100, 101)] == ["deferred", "skipped"]
    query(dsn, f"UPDATE {S}.jobs SET status = 'failed'")
    assert [defer(app, each, task) for each in (101, 102)] == ["taken", "deferred"]
    assert timestamps(dsn) == [100, 102]


def test_a_job_that_can_not_be_deferred_leaves_no_trace(app: App, dsn: str) -> None:
    with pytest.raises(Exception, match="jobs_queue_length"):
        defer(app, 100, spec(queue="q" * 300))
    assert query(dsn, f"SELECT count(*) FROM {S}.periodic_tasks") == [(0,)]
    assert defer(app, 100) == "deferred"


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("end", "outcome", "jobs"), [("COMMIT", "taken", [100]), ("ROLLBACK", "deferred", [100])])
def test_two_sessions_at_once(app: App, dsn: str, known: bool, end: str, outcome: str, jobs: list[int]) -> None:
    """The second waits for the first, and defers the period only if that did not."""
    if known:
        app.execute(register_periodic_tasks([spec()]))
    outcomes: list[str] = []
    second = threading.Thread(target=lambda: outcomes.append(defer(app, 100)))
    with psycopg.connect(dsn, autocommit=True) as first:
        first.execute("BEGIN")
        periodic = {
            "task_name": "t",
            "periodic_id": "",
            "cron": "",
            "timezone": "",
            "job": {"task_name": "t", "args": {}},
        }
        row = first.execute(f"SELECT outcome FROM {S}.defer_periodic_job(%s, 100)", [json.dumps(periodic)]).fetchone()
        assert row == ("deferred",)
        second.start()
        wait_for_row(
            dsn, "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        first.execute(end)
    second.join()
    assert outcomes == [outcome]
    assert timestamps(dsn) == jobs


def test_many_sessions_at_once(dsn: str) -> None:
    workers, periods = 6, range(100, 120)
    outcomes: list[list[str]] = [[] for _ in range(workers)]
    together = threading.Barrier(workers)

    def work(number: int) -> None:
        with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
            for period in periods:
                together.wait()
                outcomes[number].append(defer(app, period))

    threads = [threading.Thread(target=work, args=[number]) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timestamps(dsn) == list(periods)
    for nth in range(len(periods)):
        assert sorted(each[nth] for each in outcomes) == ["deferred"] + ["taken"] * (workers - 1)


def test_the_list(app: App, dsn: str) -> None:
    assert app.job_manager.list_periodic_tasks() == []
    app.execute(register_periodic_tasks([spec("u", queue="q"), spec("t", "b"), spec("t", "a", queueing_lock="l")]))
    defer(app, 100, spec("t", "a", queueing_lock="l"))
    first, second, third = app.job_manager.list_periodic_tasks()
    assert [(each.task_name, each.periodic_id, each.queue) for each in (first, second, third)] == [
        ("t", "a", "default"),
        ("t", "b", "default"),
        ("u", "", "q"),
    ]
    assert first.last_at is not None
    assert first.last_at.timestamp() == 100
    assert (first.last_job_id, first.last_job_status) == (1, "todo")
    assert first.last_deferred_at is not None
    assert first.registered_at < first.last_deferred_at
    assert (second.last_at, second.last_deferred_at, second.last_job_id) == (None, None, None)
    now = app.execute(get_clock())
    assert first.next_at is not None
    assert now - 30 < first.next_at.timestamp() < now + 1
    defer(app, 101, spec("t", "a", queueing_lock="l"))
    skipped = app.job_manager.list_periodic_tasks()[0]
    assert (skipped.last_at and skipped.last_at.timestamp(), skipped.last_job_id) == (101, None)
    query(dsn, f"UPDATE {S}.periodic_tasks SET cron = 'of a newer version'")
    assert [each.next_at for each in app.job_manager.list_periodic_tasks()] == [None] * 3


def test_a_task_registered_again_has_its_new_schedule_and_its_old_last_period(app: App) -> None:
    app.execute(register_periodic_tasks([spec()]))
    defer(app, 100)
    changed = PeriodicSpec(
        periodic_id="", cron="0 0 1 1 *", timezone="Asia/Tokyo", job=JobSpec(task_name="t", queue="q")
    )
    assert app.execute(register_periodic_tasks([changed])).last == {("t", ""): 100}
    (listed,) = app.job_manager.list_periodic_tasks()
    assert (listed.cron, listed.timezone, listed.queue) == ("0 0 1 1 *", "Asia/Tokyo", "q")
    assert listed.next_at is not None
    assert (listed.next_at.month, listed.next_at.day, listed.next_at.hour) == (12, 31, 15)


def test_run_now(app: App, dsn: str) -> None:
    app.execute(register_periodic_tasks([spec(task_kwargs={"a": 1}), spec(periodic_id="x", queueing_lock="l")]))
    before = int(app.execute(get_clock()))
    job = app.job_manager.get_job(app.job_manager.run_periodic_task("t"))
    assert job.task_name == "t"
    assert job.task_kwargs["a"] == 1
    assert before <= job.task_kwargs["timestamp"] <= app.execute(get_clock())
    assert app.job_manager.list_periodic_tasks()[0].last_at is None, "it is besides the schedule"
    app.job_manager.run_periodic_task("t", "x")
    with pytest.raises(AlreadyEnqueued):
        app.job_manager.run_periodic_task("t", "x")
    with pytest.raises(TaskNotFound, match="'nothing'"):
        app.job_manager.run_periodic_task("nothing")


def test_forgetting(app: App) -> None:
    app.execute(register_periodic_tasks([spec(), spec(periodic_id="x")]))
    assert app.job_manager.forget_periodic_task("t", "x") is True
    assert app.job_manager.forget_periodic_task("t", "x") is False
    assert [each.periodic_id for each in app.job_manager.list_periodic_tasks()] == [""]
