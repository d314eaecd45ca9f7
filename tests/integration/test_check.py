"""`check`, and the sweep that any worker makes now and then."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import psycopg
import pytest

from procrastinate_deps import App, SyncPsycopgConnector, statements
from procrastinate_deps.invariants import Repair, Violation
from procrastinate_deps.worker import Worker, sweeper
from tests.integration.cli_process import Cli, environment
from tests.integration.worker_helpers import ended, query, until, working

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S = "procrastinate_deps"
WRONG = "the counters of a blocked job are right"


def damage(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(sql.encode())


def blocked(app: App, count: int = 1) -> list[int]:
    """As many jobs that wait for one."""
    parent = app.configure_task("t").defer()
    return app.configure_task("t", depends_on=parent).batch_defer(*({} for _ in range(count)))


@pytest.fixture
def sync_app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


# The verbs


def test_check_and_repair_without_async(sync_app: App, dsn: str) -> None:
    assert sync_app.job_manager.check() == []
    jobs = blocked(sync_app, 6)
    damage(dsn, f"UPDATE {S}.job_blocks SET live = 7")
    assert sync_app.job_manager.check() == [Violation(invariant=WRONG, jobs=6, examples=jobs[:5])]
    assert sync_app.job_manager.repair() == [Repair(invariant=WRONG, jobs=6, examples=jobs[:5])]
    assert sync_app.job_manager.check() == []


def test_repair_in_ones_own_transaction(sync_app: App, dsn: str) -> None:
    jobs = blocked(sync_app)
    damage(dsn, f"UPDATE {S}.job_blocks SET live = 7")
    with psycopg.connect(dsn) as connection:
        assert [each.examples for each in sync_app.job_manager.repair(connection=connection)] == [jobs]
        assert sync_app.job_manager.check(connection=connection) == []
        connection.rollback()
    assert len(sync_app.job_manager.check()) == 1


# The command


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


def test_a_healthy_database(cli: Cli, sync_app: App) -> None:
    blocked(sync_app)
    done = cli.run("check")
    assert (done.status, done.out) == (0, "every invariant holds\n")
    done = cli.run("check", "--repair")
    assert (done.status, done.out) == (0, "every invariant holds\n")
    assert cli.json("check") == {"violations": [], "repaired": [], "left": []}


def test_what_is_broken_is_named_and_mended(cli: Cli, sync_app: App, dsn: str) -> None:
    jobs = blocked(sync_app, 6)
    damage(dsn, f"UPDATE {S}.job_blocks SET live = 7")
    shown = f"{WRONG}: 6 ({', '.join(map(str, jobs[:5]))}, ...)"
    done = cli.run("check")
    assert (done.status, done.out) == (1, f"broken: {shown}\n1 invariant(s) broken\n")
    done = cli.run("check", "--format", "json")
    assert done.status == 1
    found = [{"invariant": WRONG, "jobs": 6, "examples": jobs[:5]}]
    assert json.loads(done.out) == {"violations": found, "repaired": [], "left": found}
    done = cli.run("check", "--repair")
    assert (done.status, done.out) == (0, f"broken: {shown}\nrepaired: {shown}\nevery invariant holds now\n")


def test_what_can_not_be_mended_is_left(cli: Cli, sync_app: App, dsn: str) -> None:
    """Two running jobs of one lock."""
    sync_app.configure_task("t", lock="l").batch_defer({}, {})
    worker = sync_app.execute(statements.register_worker("w", "host", 1, None, 1, "1"))
    (job,) = sync_app.execute(statements.fetch_jobs(None, worker, 1))
    damage(
        dsn,
        f"UPDATE {S}.jobs SET status = 'doing', gate = NULL, claim = 1, started_at = now(), worker_id = 1"
        f" WHERE id <> {job.id}",
    )
    done = cli.run("check", "--repair")
    assert done.status == 1
    assert "still broken: a running job holds its lock: 1" in done.out


# The sweep


def begin(app: App, every_s: float = 600) -> bool:
    return app.execute(statements.begin_sweep(1, every_s))


def test_one_worker_at_a_time_and_not_again_soon(sync_app: App, dsn: str) -> None:
    with psycopg.connect(dsn) as other:
        assert other.execute(f"SELECT {S}.begin_sweep(2, '10 min')".encode()).fetchone() == (True,)
        assert begin(sync_app) is False
    assert begin(sync_app) is False
    assert begin(sync_app, every_s=0) is True
    query(dsn, f"UPDATE {S}.sweeps SET began_at = now() - interval '11 min'")
    assert begin(sync_app) is True
    assert query(dsn, f"SELECT worker_id, now() - began_at < interval '1 min' FROM {S}.sweeps") == [(1, True)]


def test_what_dead_waiters_left_goes(sync_app: App, dsn: str) -> None:
    waits = f"INSERT INTO {S}.job_waits (job_id, until) VALUES (1, now() - interval '1 s'), (2, now() + interval '1 h')"
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute(waits.encode())
        assert begin(sync_app, 0.0)
        assert other.execute(f"SELECT job_id FROM {S}.job_waits".encode()).fetchall() == [(2,)]


def test_blocked_jobs_are_looked_at_in_batches(sync_app: App, dsn: str) -> None:
    """As many jobs as told, and no more than 20 times as many parents."""
    jobs = blocked(sync_app, 10)
    sweep = f"SELECT reached, repaired FROM {S}.sweep_blocked(%s, %s)"
    assert query(dsn, sweep, 0, 4) == [(jobs[3], {})]
    assert query(dsn, sweep, jobs[3], 100) == [(jobs[-1], {})]
    assert query(dsn, sweep, jobs[-1], 100) == [(None, {})]
    parents = sync_app.configure_task("t").batch_defer(*({} for _ in range(30)))
    wide = sync_app.configure_task("t", depends_on=parents).batch_defer({}, {}, {})
    assert query(dsn, sweep, jobs[-1], 1) == [(wide[0], {})]
    assert query(dsn, sweep, jobs[-1], 2) == [(wide[1], {})]
    damage(
        dsn, f"UPDATE {S}.job_blocks SET live = 1; INSERT INTO {S}.job_blocks VALUES (1, 'all_finished', 1, 0, 0, 0, 0)"
    )
    assert query(dsn, sweep, jobs[-1], 100) == [(wide[-1], {WRONG: wide})]
    assert query(dsn, sweep, 0, 1) == [(1, {"only a blocked job has counters": [1]})]
    assert sync_app.job_manager.check() == []


def test_locks_are_looked_at_in_batches(sync_app: App, dsn: str) -> None:
    worker = sync_app.execute(statements.register_worker("w", "host", 1, None, 1, "1"))
    names = [f"lock {number}" for number in range(6)]
    for name in names:
        sync_app.configure_task("t", lock=name).batch_defer({}, {})
    running = sync_app.execute(statements.fetch_jobs(None, worker, 6))
    assert sync_app.execute(statements.fetch_jobs(None, worker, 6)) == []
    sweep = f"SELECT reached, repaired FROM {S}.sweep_locks(%s, %s)"
    assert query(dsn, sweep, "", 4) == [("lock 3", {})]
    assert query(dsn, sweep, "lock 3", 4) == [(None, {})]
    # nobody has the first, a job that is not there the last
    damage(dsn, f"DELETE FROM {S}.locks WHERE lock = 'lock 0'; UPDATE {S}.locks SET job_id = 999 WHERE lock = 'lock 5'")
    ((reached, repaired),) = query(dsn, sweep, "", 100)
    assert reached is None
    assert {running[0].id, running[5].id} <= set(*repaired.values())
    assert sync_app.job_manager.check() == []
    # parked, and nobody runs with the lock
    damage(
        dsn,
        f"UPDATE {S}.jobs SET status = 'succeeded', finished_at = now() WHERE status = 'doing'; DELETE FROM {S}.locks",
    )
    assert len(sync_app.job_manager.check()) == 1
    assert query(dsn, sweep, "", 3)[0][0] == "lock 2"
    ((reached, repaired),) = query(dsn, sweep, "lock 2", 10)
    assert (reached, len(*repaired.values())) == (None, 3)
    assert sync_app.job_manager.check() == []
    assert len(sync_app.execute(statements.fetch_jobs(None, worker, 10))) == 6


def test_a_long_line_that_nobody_has_looked_at_yet_is_healthy(sync_app: App, dsn: str) -> None:
    sync_app.configure_task("t", lock="l").batch_defer(*({} for _ in range(20)))
    assert query(dsn, f"SELECT reached, repaired FROM {S}.sweep_locks('')") == [(None, {})]


def test_unfinished_workflows_are_looked_at_in_batches(sync_app: App, dsn: str) -> None:
    jobs = "(SELECT jsonb_agg(jsonb_build_object('task_name', 't', 'workflow', 0)) FROM generate_series(1, 10))"
    for number in range(4):
        workflow = json.dumps([{"name": f"w{number}"}])
        query(dsn, f"SELECT {S}.defer_graph(%s, {jobs})", workflow)
    query(dsn, f"SELECT {S}.cancel_workflow(4)")
    query(dsn, f"SELECT {S}.fold_workflows()")
    sweep = f"SELECT reached, repaired FROM {S}.sweep_workflows(%s, %s)"
    assert query(dsn, sweep, 0, 20) == [(2, {})]
    damage(dsn, f"UPDATE {S}.workflows SET failed = 3")
    assert query(dsn, sweep, 1, 1) == [(2, {"the counts of a workflow are those of its jobs": [2]})]
    assert query(dsn, sweep, 2, 1000) == [(3, {"the counts of a workflow are those of its jobs": [3]})]
    # one that has ended is no business of the sweep
    assert query(dsn, sweep, 3, 1000) == [(None, {})]
    assert [each.examples for each in sync_app.job_manager.check()] == [[1, 4]]


def said_by_sweepers(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(each.levelname, vars(each)["action"]) for each in caplog.records if each.name == sweeper.__name__]


async def test_a_worker_sweeps_and_says_what_it_repaired(app: App, dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    @app.task(name="t")
    async def task() -> None: ...

    parent = await app.configure_task("nobody").defer_async()
    child = await app.configure_task("t", depends_on=parent).defer_async()
    await app.job_manager.cancel_job_by_id_async(parent)
    damage(
        dsn,
        f"UPDATE {S}.jobs SET status = 'blocked' WHERE id = {child};"
        f" INSERT INTO {S}.job_blocks VALUES ({child}, 'all_finished', 1, 0, 0, 0, 0)",
    )
    with caplog.at_level(logging.DEBUG, "procrastinate_deps.worker.sweeper"):
        async with working(app, sweep_interval=0.05):
            job = await ended(app, child)
            await until(lambda: ("DEBUG", "swept") in said_by_sweepers(caplog), "the end of the sweep")
    assert job.status == "succeeded"
    (said,) = [record for record in caplog.records if vars(record).get("action") == "repaired"]
    assert said.levelname == "WARNING"
    assert (vars(said)["action"], vars(said)["invariant"], vars(said)["ids"]) == ("repaired", WRONG, [child])
    assert said.getMessage() == f"Repaired what broke the rule that {WRONG}: 1, as {child}"
    assert await app.job_manager.check_async() == []


async def test_a_healthy_database_is_swept_in_silence(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweeper, "MIN_PAUSE_S", 0.001)
    parent = await app.configure_task("t").defer_async()
    await app.configure_task("t", depends_on=parent, queue="q").batch_defer_async({}, {})
    with caplog.at_level(logging.DEBUG, "procrastinate_deps.worker.sweeper"):
        async with (
            working(app, queues=["none"], sweep_interval=0.01),
            working(app, queues=["none"], sweep_interval=0.01),
        ):
            await until(lambda: len(said_by_sweepers(caplog)) > 5, "a few sweeps")
    assert set(said_by_sweepers(caplog)) == {("DEBUG", "swept")}


async def test_how_often_is_an_option(app: App, dsn: str, cli: Cli) -> None:
    assert Worker(app).options.sweep_interval == 600
    with pytest.raises(ValueError, match="sweep_interval=-1 is negative"):
        Worker(app, sweep_interval=-1)
    for never in (None, 0):
        job = await app.configure_task("unknown").defer_async()
        async with working(app, sweep_interval=never):
            await ended(app, job)
    assert query(dsn, f"SELECT count(*) FROM {S}.sweeps") == [(0,)]
    assert "--sweep-interval" in cli("worker", "--help")
