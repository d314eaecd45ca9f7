"""One statement ends jobs and fetches others: whatever becomes of it, nothing is lost and nothing is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import psycopg
import pytest

from procrastinate_deps import JobContext
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.exceptions import ConnectorException
from tests.chaos.network import Network
from tests.integration.worker_helpers import (
    ended,
    events,
    idle,
    job_when,
    make_app,
    one_shot,
    query,
    until,
    working,
)
from tests.places import server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps import App
    from procrastinate_deps._embedded.cluster import Cluster
    from procrastinate_deps.worker import Worker

ENDS = "SELECT status::text, count(*), max(attempts) FROM procrastinate_deps.jobs GROUP BY 1 ORDER BY 1"
drivers = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


class Line:
    """Between the worker and the connector: answers can be lost on it, once they are there."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        assert isinstance(app.connector, AsyncConnector)
        self._execute = app.connector.execute_async
        self.asked: list[str] = []
        # Which answers are lost, by the name of the statement: how many more.
        self.losing: dict[str, int] = {}
        # What was in them.
        self.lost: list[Any] = []
        # The same for statements that don't even reach the database.
        self.cutting: dict[str, int] = {}
        monkeypatch.setattr(app.connector, "execute_async", self)

    async def __call__(self, statement: Any, connection: Any = None) -> Any:
        self.asked.append(statement.name)
        if self.cutting.get(statement.name, 0) > 0:
            self.cutting[statement.name] -= 1
            raise ConnectorException("the connection was lost before the statement came")
        answer = await self._execute(statement, connection)
        if self.losing.get(statement.name, 0) > 0 and getattr(answer, "jobs", answer):
            self.losing[statement.name] -= 1
            self.lost.append(answer)
            raise ConnectorException("the connection was lost before the answer came")
        return answer

    @property
    def lost_jobs(self) -> list[int]:
        """Those that were claimed by a statement whose answer was lost."""
        return [job.id for answer in self.lost for job in getattr(answer, "jobs", answer)]


def exchange_of(worker: Worker) -> Any:
    assert worker._shift is not None
    return worker._shift._exchange


# Answers that are lost


@pytest.mark.parametrize("name", ["fetch_jobs", "finish_and_fetch"])
async def test_jobs_whose_fetch_was_not_answered_are_put_back_and_run(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    runs: list[int] = []

    @app.task(pass_context=True)
    async def step(context: JobContext) -> int:
        runs.append(context.job.id)
        return context.job.id

    line = Line(app, monkeypatch)
    line.losing[name] = 3
    ids = await step.batch_defer_async(*[{}] * 30)
    async with working(app, concurrency=4):
        for each in ids:
            assert (await ended(app, each)).result == each
    assert len(line.lost) == 3
    assert line.lost_jobs
    # Each ran once, and that end was recorded once: what was put back has not begun.
    assert sorted(runs) == ids
    assert query(dsn, ENDS) == [("succeeded", 30, 1)]
    requeued = "SELECT job_id FROM procrastinate_deps.job_events WHERE type = 'requeued' ORDER BY job_id"
    assert [row[0] for row in query(dsn, requeued)] == sorted(line.lost_jobs)


async def test_ends_that_could_not_be_sent_are_not_taken_for_jobs_that_were_lost(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []

    @app.task(pass_context=True)
    async def step(context: JobContext) -> None:
        runs.append(context.job.id)
        await anyio.sleep(0.002)

    line = Line(app, monkeypatch)
    line.cutting = {"finish_and_fetch": 3, "finish_jobs": 1}
    ids = await step.batch_defer_async(*[{}] * 30)
    async with working(app, concurrency=4):
        for each in ids:
            await ended(app, each)
    assert set(line.cutting.values()) == {0}
    assert "claimed_jobs" in line.asked
    assert sorted(runs) == ids
    assert query(dsn, ENDS) == [("succeeded", 30, 1)]
    assert query(dsn, "SELECT type FROM procrastinate_deps.job_events") == []


async def test_they_are_put_back_while_the_others_never_cease_to_end(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    line = Line(app, monkeypatch)

    @app.task(name="endless", pass_context=True)
    async def endless(context: JobContext) -> None:
        runs.append(context.job.id)
        # Several of these at any time, so that there is always an end to record.
        if not line.lost_jobs or not set(line.lost_jobs) <= set(runs):
            await app.configure_task("endless").batch_defer_async({}, {})
        await anyio.sleep(0.002)

    async with working(app, concurrency=3) as worker:
        await idle(worker)
        await endless.batch_defer_async(*[{}] * 6)
        await until(lambda: len(runs) > 10, "a few runs")
        line.losing["finish_and_fetch"] = 1
        await until(lambda: line.lost_jobs and set(line.lost_jobs) <= set(runs), "the runs of those that were lost")
        await until(lambda: [status for status, _, _ in query(dsn, ENDS)] == ["succeeded"], "the ends of all")
    assert sorted(runs) == sorted(set(runs))


async def test_a_fetch_that_is_committed_late_is_found_though_no_slot_is_free(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection was given up, and the server knew nothing of that: it commits after the worker has looked."""
    release = anyio.Event()

    @app.task
    async def wait() -> None:
        await release.wait()

    line = Line(app, monkeypatch)
    async with working(app, update_heartbeat_interval=0.2) as worker:
        await idle(worker)
        line.losing["fetch_jobs"] = 1
        first = await wait.defer_async()
        await until(lambda: exchange_of(worker)._runner.running == 1, "its run")
        assert line.lost_jobs == [first]
        late = await wait.defer_async()
        assert worker._shift is not None
        [[claimed]] = query(
            dsn, "SELECT id FROM procrastinate_deps.fetch_jobs(NULL, %s, 1)", worker._shift._state.worker_id
        )
        assert claimed == late
        assert (await job_when(app, late, "todo")).attempts == 0
        assert await events(app, late) == ["requeued"]
        release.set()
        assert (await ended(app, late)).status == "succeeded"
    assert query(dsn, ENDS) == [("succeeded", 2, 1)]


async def test_an_end_that_was_recorded_without_an_answer_is_not_recorded_twice(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []

    @app.task(retry=3, pass_context=True)
    async def fails_at_first(context: JobContext) -> None:
        runs.append(context.job.id)
        if context.attempt == 1:
            raise ValueError

    line = Line(app, monkeypatch)
    line.losing["finish_and_fetch"] = 1
    # The statement that ends the first attempt claims the job for the second one.
    job_id = await fails_at_first.defer_async()
    async with working(app) as worker:
        job = await ended(app, job_id)
        assert (job.status, job.attempts) == ("succeeded", 2)
        assert runs == [job_id] * 2
        assert await events(app, job_id) == ["attempt_failed", "requeued"]
        await until(lambda: exchange_of(worker)._finisher.pending == 0, "nothing to record")
    assert "job_lost" not in [record.__dict__.get("action") for record in caplog.records]


@pytest.fixture
def between(server: Cluster) -> Iterator[Network]:
    folder = server_folder("pd-line-")
    network = Network(folder, server.socket_directory)
    yield network
    network.close()


@drivers
async def test_connections_that_are_cut_between_commit_and_answer(between: Network, dsn: str, driver: str) -> None:
    runs: list[int] = []
    database = query(dsn, "SELECT current_database()")[0][0]
    folder = quote(str(between._folder), safe="/")
    app = make_app(f"postgresql://postgres@/{database}?host={folder}&port=5432", driver)

    @app.task(name="step", pass_context=True)
    async def step(context: JobContext) -> None:
        runs.append(context.job.id)
        await anyio.sleep(0.005)

    with make_app(dsn).open() as direct:
        ids = await anyio.to_thread.run_sync(direct.configure_task("step").batch_defer, *[{}] * 150)
    async with app.open_async(), working(app, concurrency=4, fetch_job_polling_interval=0.5) as worker:
        await until(lambda: runs, "the first run")
        while len(set(runs)) < len(ids):
            ran = len(runs)
            between.lose_answers()
            await until(lambda ran=ran: len(runs) > ran or len(set(runs)) == len(ids), "some more runs")  # type: ignore[misc]
            await anyio.sleep(0.02)  # faster than it connects again, nothing would ever be answered
        await until(lambda: query(dsn, ENDS) == [("succeeded", len(ids), 1)], "the ends of all")
        await until(lambda: exchange_of(worker)._finisher.pending == 0, "nothing to record")
    assert between.answers_lost > 3
    assert sorted(runs) == sorted(ids)


# Statements that fail


async def test_a_worker_that_is_lost_hears_of_it_with_its_ends_and_keeps_them(app: App, dsn: str) -> None:
    go_on = anyio.Event()

    @app.task
    async def wait() -> str:
        await go_on.wait()
        return "done"

    async with working(app, stalled_worker_timeout=300, update_heartbeat_interval=100) as worker:
        await idle(worker)
        job_id = await wait.defer_async()
        await job_when(app, job_id, "doing")
        query(dsn, "UPDATE procrastinate_deps.workers SET lost_at = now()")
        go_on.set()
        # Nobody has taken it back so far: the end counts.
        job = await ended(app, job_id)
        assert (job.status, job.result, job.attempts) == ("succeeded", "done", 1)
        await until(lambda: worker._shift is not None and worker._shift._state.worker_id != job.worker_id, "a new id")
        assert (await ended(app, await wait.defer_async())).status == "succeeded"


async def test_an_end_that_has_to_wait_keeps_no_other_job_from_being_fetched(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end would cancel its child, to which an open transaction has just added a child of its own."""

    @app.task
    async def fail() -> None:
        raise ValueError

    @app.task
    async def nothing() -> None: ...

    line = Line(app, monkeypatch)
    async with working(app) as worker:
        await idle(worker)
        parent = await fail.configure(schedule_in={"seconds": 0.5}).defer_async()
        doomed = await nothing.configure(depends_on=parent, run_when="all_succeeded").defer_async()
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            last = await nothing.configure(depends_on=doomed, connection=conn).defer_async()
            await until(lambda: exchange_of(worker)._finisher._late, "an end that waits")
            for _ in range(3):
                assert (await ended(app, await nothing.defer_async())).status == "succeeded"
            assert await app.job_manager.get_job_status_async(parent) == "doing"
            await conn.commit()
        jobs = [await ended(app, each) for each in (parent, doomed, last)]
    assert [job.status for job in jobs] == ["failed", "cancelled", "succeeded"]
    # The server has said that nothing was committed: there is nothing to look for.
    assert "claimed_jobs" not in line.asked


async def test_a_fetch_that_fails_spoils_no_result(app: App, dsn: str) -> None:
    """What fails in a statement of both is not blamed on the results."""
    query(dsn, "ALTER FUNCTION procrastinate_deps.announce_left RENAME TO other_announce_left")
    query(
        dsn,
        "CREATE FUNCTION procrastinate_deps.announce_left(boolean, text[]) RETURNS void LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no fetch' USING ERRCODE = '22023'; END $$",
    )

    @app.task
    async def give(value: str) -> str:
        return value

    async with working(app, concurrency=2):
        ids = await give.batch_defer_async(*[{"value": f"sound {n}"} for n in range(5)])
        jobs = [await ended(app, each) for each in ids]
    assert [(job.status, job.result, job.attempts) for job in jobs] == [
        ("succeeded", f"sound {n}", 1) for n in range(5)
    ]


async def test_ends_that_fail_with_a_fetch_go_together_at_first(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, they would take a transaction each wherever many workers end the parents of one child."""
    line = Line(app, monkeypatch)
    finished: list[int] = []
    at_once = anyio.Event()

    @app.task
    async def wait() -> None:
        await at_once.wait()

    async with working(app, concurrency=10) as worker:
        await idle(worker)
        ids = await wait.batch_defer_async(*[{}] * 10)
        child = await wait.configure(depends_on=ids).defer_async()
        for each in ids:
            await job_when(app, each, "doing")
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            await conn.execute("SELECT FROM procrastinate_deps.jobs WHERE id = %s FOR UPDATE", [child])
            at_once.set()
            await until(lambda: "finish_jobs" in line.asked, "the second sending")
            await conn.rollback()
        for each in (*ids, child):
            assert (await ended(app, each)).status == "succeeded"
        finished = [n for n, name in enumerate(line.asked) if name == "finish_jobs"]
    assert len(finished) < 5


# The end of a worker that runs once


@pytest.mark.parametrize("lossy", [False, True])
async def test_one_shot_ends_when_everything_has_ended(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch, lossy: bool
) -> None:
    runs: list[int] = []

    @app.task(pass_context=True, retry=2)
    async def step(context: JobContext, fails: bool = False) -> None:
        runs.append(context.job.id)
        if fails and context.attempt == 1:
            raise ValueError

    ids: list[int] = []
    layer: list[int] = []
    for _ in range(5):
        layer = [
            await step.configure(depends_on=layer, lock=lock).defer_async(fails=lock == "b")
            for lock in (None, None, "a", "a", "b")
        ]
        ids += layer
    line = Line(app, monkeypatch)
    if lossy:
        line.losing = {"fetch_jobs": 2, "finish_and_fetch": 2, "finish_jobs": 2}
    await one_shot(app, concurrency=3, fetch_job_polling_interval=0.5)
    assert query(dsn, ENDS) == [("succeeded", 25, 2)]
    assert sorted(set(runs)) == ids
    assert len(runs) == 30
