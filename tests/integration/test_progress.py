"""How far running jobs are: told by their tasks, stored beside everything else."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import psycopg
import pytest
from click.testing import CliRunner

from procrastinate_deps import App, JobContext, Progress
from procrastinate_deps.cli.program import program
from procrastinate_deps.worker import progress
from tests.integration.worker_helpers import DEADLINE_S, ended, job_when, one_shot, query, until, working

if TYPE_CHECKING:
    from pathlib import Path

    from procrastinate_deps.statements import Statement

ROWS = "SELECT job_id, claim, done, total, message FROM procrastinate_deps.job_progress ORDER BY job_id"


async def shown(app: App, job_id: int, done: float) -> Progress:
    """The job's progress, once it is so far."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            found = (await app.job_manager.get_job_async(job_id)).progress
            if found is not None and found.done == done:
                return found
            await anyio.sleep(0.005)


def counted(app: App, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each statement told of."""
    told: list[int] = []
    execute = app.connector.execute_async  # type: ignore[union-attr]

    async def counting(statement: Statement[Any], connection: Any = None) -> Any:
        if statement.name == "set_progress":
            told.append(len(statement.values[0]))
        return await execute(statement, connection)

    monkeypatch.setattr(app.connector, "execute_async", counting)
    return told


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_while_a_job_runs_and_after_its_end(app: App, kind: str) -> None:
    go = threading.Event()

    @app.task(name="async", pass_context=True)
    async def in_loop(context: JobContext) -> None:
        await context.set_progress_async(1, 4, "first")
        await anyio.to_thread.run_sync(go.wait)
        context.set_progress(4, 4)

    @app.task(name="thread", pass_context=True)
    def in_thread(context: JobContext) -> None:
        context.set_progress(1, 4, "first")
        go.wait()
        context.set_progress(4, 4)

    job_id = await app.configure_task(kind).defer_async()
    assert (await app.job_manager.get_job_async(job_id)).progress is None
    async with working(app):
        found = await shown(app, job_id, 1)
        assert (found.total, found.message, found.fraction) == (4, "first", 0.25)
        assert isinstance(found.done, int)
        go.set()
        job = await ended(app, job_id)
        final = await shown(app, job_id, 4)
    assert (final.message, final.fraction) == (None, 1.0)
    assert found.updated_at < final.updated_at
    assert job.started_at is not None
    assert job.started_at < found.updated_at
    assert (await app.job_manager.list_jobs_async(id=job_id))[0].progress == final


async def test_the_last_value_is_stored_when_the_worker_stops(app: App) -> None:
    """Jobs of a moment, and a worker that leaves with them."""

    @app.task(name="count", pass_context=True)
    async def count(context: JobContext, to: int) -> None:
        for done in range(to + 1):
            context.set_progress(done, to)

    job_ids = await count.batch_defer_async(*[{"to": to} for to in range(1, 30)])
    await one_shot(app, concurrency=3)
    for to, job_id in enumerate(job_ids, 1):
        job = await app.job_manager.get_job_async(job_id)
        assert job.progress is not None
        assert (job.progress.done, job.progress.total) == (to, to)


async def test_a_write_that_is_cut_off_when_the_worker_stops_is_repeated(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = app.connector.execute_async  # type: ignore[union-attr]
    begun = anyio.Event()

    async def endless_at_first(statement: Statement[Any], connection: Any = None) -> Any:
        if statement.name == "set_progress" and not begun.is_set():
            begun.set()
            await anyio.sleep_forever()
        return await execute(statement, connection)

    @app.task(pass_context=True)
    async def tell(context: JobContext) -> None:
        context.set_progress(1, 2)
        await begun.wait()

    monkeypatch.setattr(app.connector, "execute_async", endless_at_first)
    job_id = await tell.defer_async()
    await one_shot(app)
    job = await app.job_manager.get_job_async(job_id)
    assert job.progress is not None
    assert job.progress.done == 1


async def test_many_reports_of_many_jobs_are_few_statements(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for the first report, one for all that were made since."""
    told = counted(app, monkeypatch)
    everybody_is_here = 0
    go = anyio.Event()

    @app.task(name="chatter", pass_context=True)
    async def chatter(context: JobContext) -> None:
        nonlocal everybody_is_here
        for done in range(1000):
            context.set_progress(done)
        everybody_is_here += 1
        await go.wait()

    await chatter.batch_defer_async(*[{}] * 50)
    async with working(app, concurrency=50):
        await until(lambda: everybody_is_here == 50, "all jobs")
        await until(lambda: sum(told) >= 50, "all reports")
        go.set()
    assert len(told) <= 3
    assert sum(told) <= 100


async def test_two_writes_a_second_at_most(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    told = counted(app, monkeypatch)

    @app.task(name="steady", pass_context=True)
    async def steady(context: JobContext) -> None:
        for done in range(120):
            context.set_progress(done)
            await anyio.sleep(0.01)

    await steady.defer_async()
    with anyio.fail_after(DEADLINE_S):
        began_at = anyio.current_time()
        await one_shot(app)
        lasted_s = anyio.current_time() - began_at
    assert 2 <= len(told) <= lasted_s / progress.WRITE_INTERVAL_S + 2


async def test_of_another_claim_nothing_is_shown(app: App, dsn: str) -> None:
    """A run that was lost may go on telling; the next one has told nothing yet."""
    contexts: list[JobContext] = []
    go = anyio.Event()

    @app.task(name="told_once", pass_context=True)
    async def told_once(context: JobContext) -> None:
        contexts.append(context)
        if len(contexts) == 1:
            context.set_progress(7)
            raise ValueError
        await go.wait()

    job_id = await told_once.defer_async()
    async with working(app):
        await ended(app, job_id)
        await shown(app, job_id, 7)
        await app.job_manager.retry_job_by_id_async(job_id, retry_at=None)
        job = await job_when(app, job_id, "doing")
        assert job.progress is None
        contexts[0].set_progress(8)
        await until(lambda: len(contexts) == 2, "the second run")
        contexts[1].set_progress(1)
        await shown(app, job_id, 1)
        go.set()
    assert query(dsn, ROWS) == [(job_id, contexts[1].job.claim, 1.0, None, None)]


async def test_it_goes_with_its_job(app: App, dsn: str) -> None:
    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        context.set_progress(1)

    job_ids = await tell.batch_defer_async({}, {}, {})
    await one_shot(app)
    assert len(query(dsn, ROWS)) == 3
    query(dsn, "DELETE FROM procrastinate_deps.jobs WHERE id = %s", job_ids[0])
    assert [row[0] for row in query(dsn, ROWS)] == job_ids[1:]
    query(dsn, "TRUNCATE procrastinate_deps.jobs CASCADE")
    assert query(dsn, ROWS) == []


async def test_a_worker_that_deletes_what_has_ended_leaves_none(app: App, dsn: str) -> None:
    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        context.set_progress(1)

    await tell.batch_defer_async(*[{}] * 20)
    await one_shot(app, delete_jobs="always", concurrency=5)
    assert query(dsn, ROWS) == []


async def test_a_job_that_somebody_holds_is_told_of_later(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end goes first: a report waits for nobody."""
    told = counted(app, monkeypatch)
    held, go = anyio.Event(), anyio.Event()

    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        await held.wait()
        context.set_progress(3)
        await go.wait()

    job_id = await tell.defer_async()
    async with working(app):
        await job_when(app, job_id, "doing")
        with psycopg.connect(dsn) as other:
            other.execute("SELECT FROM procrastinate_deps.jobs WHERE id = %s FOR UPDATE", [job_id])
            held.set()
            await until(lambda: len(told) >= 3, "the third attempt")
            assert query(dsn, ROWS) == []
        await shown(app, job_id, 3)
        go.set()


# Trouble


async def test_a_database_that_refuses_is_no_trouble_of_the_task(
    app: App, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    query(dsn, "ALTER TABLE procrastinate_deps.job_progress ADD CONSTRAINT none CHECK (done < 0)")

    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> int:
        context.set_progress(1)
        return 1

    job_ids = [await tell.defer_async() for _ in range(2)]
    for job_id in job_ids:
        await one_shot(app)
        assert (await ended(app, job_id)).result == 1
    refusals = [record for record in caplog.records if getattr(record, "action", "") == "progress_refused"]
    assert len(refusals) == 1
    assert refusals[0].levelno == logging.ERROR


async def test_what_can_not_be_written_is_written_later(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections are killed again and again: one warning, and the last value in the end."""
    told = counted(app, monkeypatch)
    lock = psycopg.connect(dsn)
    lock.execute("LOCK procrastinate_deps.job_progress")
    go = anyio.Event()

    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        for done in range(3):
            context.set_progress(done)
        await go.wait()
        context.set_progress(3)

    job_id = await tell.defer_async()
    async with working(app):
        # 55P03, after a second each: the table is locked
        await until(lambda: len(told) >= 2, "a second attempt")
        lock.close()
        await shown(app, job_id, 2)
        go.set()
        await ended(app, job_id)
        await shown(app, job_id, 3)
    warnings = [record for record in caplog.records if getattr(record, "action", "") == "progress_error"]
    assert len(warnings) == 1


async def test_what_is_told_meanwhile_wins(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that is written again is older than the one that came while it could not be written."""
    told = counted(app, monkeypatch)
    contexts: list[JobContext] = []
    go = anyio.Event()

    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        contexts.append(context)
        context.set_progress(1)
        await go.wait()

    job_id = await tell.defer_async()
    with psycopg.connect(dsn) as lock:
        lock.execute("LOCK procrastinate_deps.job_progress")
        async with working(app):
            await until(lambda: len(told) == 1, "the first attempt")
            contexts[0].set_progress(2)
            await until(lambda: len(told) >= 2, "a second attempt")
            lock.rollback()
            await shown(app, job_id, 2)
            go.set()


async def test_without_a_database_the_oldest_reports_go(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that were to be written again."""
    monkeypatch.setattr(progress, "MAX_UNSENT", 3)
    told = counted(app, monkeypatch)
    contexts: dict[int, JobContext] = {}
    go = anyio.Event()

    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        contexts[context.job.id] = context
        await go.wait()

    job_ids = await tell.batch_defer_async(*[{}] * 7)
    with psycopg.connect(dsn) as lock:
        lock.execute("LOCK procrastinate_deps.job_progress")
        async with working(app, concurrency=7):
            await until(lambda: len(contexts) == 7, "all jobs")
            for job_id in job_ids[:2]:
                contexts[job_id].set_progress(1)
            await until(lambda: len(told) == 1, "the first attempt")
            for job_id in job_ids[2:]:
                contexts[job_id].set_progress(1)
            await until(lambda: len(told) >= 2, "a second attempt")
            lock.rollback()
            await shown(app, job_ids[-1], 1)
            go.set()
    assert [row[0] for row in query(dsn, ROWS)] == job_ids[-3:]
    assert told[:2] == [2, 3]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ((-1,), ValueError),
        ((float("nan"),), ValueError),
        ((float("inf"),), ValueError),
        # a float can't hold it, and Python doesn't show it
        pytest.param((10**5000,), ValueError, id="more than a float"),
        pytest.param((1, 10**5000), ValueError, id="a total of more than a float"),
        ((1, -1), ValueError),
        (("1",), TypeError),
        ((True,), TypeError),
        ((None,), TypeError),
        ((1, "2"), TypeError),
        ((1, 2, 3), TypeError),
    ],
    ids=str,
)
async def test_what_is_no_progress(app: App, values: tuple[Any, ...], error: type[Exception]) -> None:
    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        with pytest.raises(error, match="pass a"):
            context.set_progress(*values)

    job_id = await tell.defer_async()
    await one_shot(app)
    assert (await ended(app, job_id)).status == "succeeded"


async def test_more_than_expected_and_odd_messages(app: App) -> None:
    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext, done: float, total: float, message: str) -> None:
        context.set_progress(done, total, message + "\ud800" if message == "half" else message)

    expected = {}
    for done, total, message, fraction, stored in (
        (12, 10, "guessed", 1.0, "guessed"),
        (0, 0, "x" * 5000, 1.0, "x" * 1000),
        (0.5, 2, "half", 0.25, "half\\ud800"),
    ):
        expected[await tell.defer_async(done=done, total=total, message=message)] = (fraction, stored)
    await one_shot(app)
    for job_id, shown_as in expected.items():
        job = await app.job_manager.get_job_async(job_id)
        assert job.progress is not None
        assert (job.progress.fraction, job.progress.message) == shown_as


def test_a_task_that_no_worker_runs_may_tell(dsn: str) -> None:
    """As in a test of the user's own that calls it."""
    told: list[Any] = []
    context = JobContext(app=None, job=None, task=None, start_timestamp=0)  # type: ignore[arg-type]
    context.set_progress(1, 2)
    context.evolve(report_progress=lambda *report: told.append(report)).set_progress(1, 2, "half")
    assert told == [(1, 2, "half")]


async def test_job_status_shows_it(app: App, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @app.task(name="tell", pass_context=True)
    async def tell(context: JobContext) -> None:
        context.set_progress(30, 40, "page 30")

    job_id = await tell.defer_async()
    await one_shot(app)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCRASTINATE_DEPS_DSN", dsn)
    output = CliRunner().invoke(program, ["job-status", str(job_id)], catch_exceptions=False).output
    assert "  progress       30 of 40 (75%), " in output
    assert "page 30" in output
    as_json = CliRunner().invoke(program, ["job-status", str(job_id), "--format", "json"], catch_exceptions=False)
    assert '"done": 30' in as_json.output
