"""Jobs that are fetched before they have a slot: they start without a round trip, or go back in time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import JobContext
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.worker import runner as runner_module
from tests.integration.worker_helpers import DEADLINE_S, ended, events, idle, job_when, make_app, until, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import App
    from procrastinate_deps.worker import Worker


def async_connector(app: App) -> AsyncConnector:
    assert isinstance(app.connector, AsyncConnector)
    return app.connector


@dataclass
class Scene:
    """A worker with two slots, both taken by a long job, and a third job that was fetched ahead and waits."""

    app: App
    worker: Worker
    running: list[int]
    ahead: int
    releases: dict[int, anyio.Event]
    started: list[int]
    wanted: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def waiting(self) -> list[int]:
        assert self.worker._shift is not None
        return [run.job.id for run in self.worker._shift._runner._next]


@contextlib.asynccontextmanager
async def scene(
    app: App, monkeypatch: pytest.MonkeyPatch, *, lock: str | None = None, expect_ahead: bool = True
) -> AsyncIterator[Scene]:
    """`lock`: of the third long job."""
    releases: dict[int, anyio.Event] = {}
    started: list[int] = []

    @app.task(name="long", pass_context=True)
    async def long(context: JobContext) -> None:
        started.append(context.job.id)
        await releases.setdefault(context.job.id, anyio.Event()).wait()

    async with working(app, concurrency=2) as worker:
        await idle(worker)
        first, second = await long.batch_defer_async({}, {})
        for each in (first, second):
            await job_when(app, each, "doing")
        await until(lambda: len(started) == 2, "two running jobs")
        assert worker._shift is not None
        shift = worker._shift
        ids = await long.batch_defer_async({}, {})
        ids.append(await long.configure(lock=lock).defer_async())

        # The answer that brings a job for the slot of the first one comes when the second one has ended, too: the next
        # fetch then counts on a slot that gets free while it is under way.
        execute = async_connector(app).execute_async
        held = anyio.Event()

        async def hold(statement: Any, connection: Any = None) -> Any:
            answer = await execute(statement, connection)
            if statement.name == "finish_and_fetch" and not held.is_set():
                held.set()
                releases[second].set()
                await until(lambda: shift._runner.ended == 2, "the end of the second job")
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(app.connector, "execute_async", hold)
            releases[first].set()
            await until(lambda: len(started) == 4, "two more running jobs")
            found = Scene(app, worker, ids[:2], ids[2], releases, started)
            if expect_ahead:
                await until(lambda: found.waiting == [found.ahead], "a job that waits for a slot")
        assert started[2:] == ids[:2]
        try:
            yield found
        finally:
            for release in releases.values():
                release.set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a slot isn't given back for its waiting."""
    monkeypatch.setattr(runner_module, "MAX_AHEAD_S", 10 * DEADLINE_S)


async def test_what_waits_for_too_long_goes_back_and_others_run_it(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(app, monkeypatch) as seen:
        assert (await job_when(app, seen.ahead, "todo")).attempts == 0
        assert await events(app, seen.ahead) == ["requeued"]
        # This worker has no slot for it, and leaves it to those who have.
        await idle(seen.worker)
        assert (await job_when(app, seen.ahead, "todo")).claim == 1
        ran_by_other: list[int] = []
        other = make_app(dsn)

        @other.task(name="long", pass_context=True)
        async def long(context: JobContext) -> None:
            ran_by_other.append(context.job.id)

        async with other.open_async(), working(other, concurrency=2) as second:
            job = await ended(app, seen.ahead)
            assert second._shift is not None
            assert job.worker_id == second._shift._state.worker_id
        assert (job.status, job.attempts, job.claim) == ("succeeded", 1, 2)
        assert ran_by_other == [seen.ahead]
        assert seen.ahead not in seen.started


@pytest.mark.usefixtures("patient")
async def test_what_goes_back_is_not_fetched_again_by_the_statement_that_says_so(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(app, monkeypatch) as seen:
        assert seen.worker._shift is not None
        # as where more jobs had ended while the last statement was under way than while this one is
        seen.worker._shift._exchange._ended_meanwhile = 1
        monkeypatch.setattr(runner_module, "MAX_AHEAD_S", 0)
        seen.worker._shift._state.fetch.set()
        assert (await job_when(app, seen.ahead, "todo")).claim == 1
        await idle(seen.worker)
        assert (await job_when(app, seen.ahead, "todo")).claim == 1


async def test_another_worker_hears_of_what_went_back(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_app(dsn)

    @other.task(name="long")
    async def long() -> None: ...

    async with other.open_async(), scene(app, monkeypatch) as seen, working(other, concurrency=2) as second:
        # It may look before the job goes back, and won't look again by itself.
        job = await ended(app, seen.ahead)
        assert second._shift is not None
        assert job.worker_id == second._shift._state.worker_id
    assert seen.ahead not in seen.started


@pytest.mark.usefixtures("patient")
async def test_a_slot_that_gets_free_takes_it_at_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(app, monkeypatch) as seen:
        seen.releases[seen.running[1]].set()
        await until(lambda: seen.ahead in seen.started, "the start of the job that waited")
        assert seen.waiting == []
        seen.releases[seen.ahead].set()
        job = await ended(app, seen.ahead)
        assert (job.status, job.attempts, job.claim) == ("succeeded", 1, 1)
        assert await events(app, seen.ahead) == []


@pytest.mark.usefixtures("patient")
async def test_a_slot_whose_job_was_aborted_takes_it_unharmed(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(app, monkeypatch) as seen:
        await app.job_manager.cancel_job_by_id_async(seen.running[0], abort=True)
        await until(lambda: seen.ahead in seen.started, "the start of the job that waited")
        assert (await ended(app, seen.running[0])).status == "aborted"
        seen.releases[seen.ahead].set()
        assert (await ended(app, seen.ahead)).status == "succeeded"
        assert await app.job_manager.get_job_status_async(seen.running[1]) == "doing"


@pytest.mark.usefixtures("patient")
async def test_a_worker_that_stops_gives_it_back_at_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(app, monkeypatch) as seen:
        seen.worker.stop()
        # Before anything else can happen, and so that no slot which gets free now starts it.
        assert seen.waiting == []
        seen.releases[seen.running[0]].set()
        assert (await job_when(app, seen.ahead, "todo")).attempts == 0
        assert await app.job_manager.get_job_status_async(seen.running[1]) == "doing"
    assert seen.ahead not in seen.started
    assert (await ended(app, seen.running[1])).status == "succeeded"
    job = await job_when(app, seen.ahead, "todo")
    assert (job.attempts, job.rescues) == (0, 0)


@pytest.mark.usefixtures("patient")
async def test_a_worker_that_stops_while_nothing_is_answered_starts_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't put the job back yet, and a slot gets free meanwhile."""
    async with scene(app, monkeypatch) as seen:
        answer, asked = anyio.Event(), anyio.Event()
        execute = async_connector(app).execute_async

        async def silent(statement: Any, connection: Any = None) -> Any:
            if statement.name in ("finish_jobs", "finish_and_fetch"):
                asked.set()
                await answer.wait()
            return await execute(statement, connection)

        with monkeypatch.context() as patch:
            patch.setattr(app.connector, "execute_async", silent)
            seen.worker.stop()
            await asked.wait()
            seen.releases[seen.running[0]].set()
            await until(lambda: seen.worker._shift is None or seen.worker._shift._runner.running == 1, "a free slot")
            answer.set()
        assert (await job_when(app, seen.ahead, "todo")).attempts == 0
    assert seen.ahead not in seen.started


@pytest.mark.parametrize("gets_a_slot", [True, False])
async def test_an_abort_of_what_waits_ends_it_without_a_run(
    app: App, monkeypatch: pytest.MonkeyPatch, gets_a_slot: bool
) -> None:
    monkeypatch.setattr(runner_module, "MAX_AHEAD_S", 10 * DEADLINE_S)
    async with scene(app, monkeypatch) as seen:
        assert await app.job_manager.cancel_job_by_id_async(seen.ahead, abort=True)
        assert seen.worker._shift is not None
        runner = seen.worker._shift._runner
        await until(lambda: any(run.asked_to_stop for run in runner._next), "the news")
        if gets_a_slot:
            seen.releases[seen.running[0]].set()
        else:
            monkeypatch.setattr(runner_module, "MAX_AHEAD_S", 0)
            seen.worker._shift._state.fetch.set()
        assert (await ended(app, seen.ahead)).status == "aborted"
    assert seen.ahead not in seen.started


@pytest.mark.usefixtures("patient")
async def test_a_job_with_a_lock_is_never_fetched_ahead(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(app, monkeypatch, lock="one", expect_ahead=False) as seen:
        await idle(seen.worker)
        assert seen.waiting == []
        job = await job_when(app, seen.ahead, "todo")
        assert job.claim == 0
        seen.releases[seen.running[0]].set()
        await job_when(app, seen.ahead, "doing")
        await until(lambda: seen.ahead in seen.started, "its start")


async def test_only_a_fetch_that_leaves_locks_may_go_beyond_the_free_slots(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a load of jobs with locks and without."""
    beyond: dict[str, int] = {"fetch_jobs": 0, "finish_and_fetch": 0}
    execute = async_connector(app).execute_async

    @app.task(name="short")
    async def short() -> None:
        await anyio.sleep(0.002)

    async def look(statement: Any, connection: Any = None) -> Any:
        if statement.name in beyond:
            assert worker._shift is not None
            beyond[statement.name] = max(beyond[statement.name], statement.values[-1] - worker._shift._runner.free())
        answer = await execute(statement, connection)
        await anyio.sleep(0.005)  # a network on which jobs end before an answer comes
        return answer

    async with working(app, concurrency=3) as worker:
        await idle(worker)
        monkeypatch.setattr(app.connector, "execute_async", look)
        ids: list[int] = []
        while beyond["finish_and_fetch"] <= 0 and len(ids) < 3000:
            for lock in (None, "a", None, "b"):
                ids += await short.configure(lock=lock).batch_defer_async(*[{}] * (5 if lock else 30))
            await ended(app, ids[-1])
        for each in ids:
            assert (await ended(app, each)).status == "succeeded"
    assert beyond["finish_and_fetch"] > 0, "nothing was fetched ahead: this test says nothing"
    assert beyond["fetch_jobs"] <= 0


async def test_after_a_busy_time_no_more_is_fetched_than_has_a_slot(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended while an earlier statement was under way makes no slot free for a later one."""
    async with scene(app, monkeypatch) as seen:
        await job_when(app, seen.ahead, "todo")
        await app.job_manager.cancel_job_by_id_async(seen.ahead)
        assert seen.worker._shift is not None
        runner = seen.worker._shift._runner
        for each in seen.running:
            seen.releases[each].set()
            assert (await ended(app, each)).status == "succeeded"
        await idle(seen.worker)
        seen.worker._shift._exchange._ended_meanwhile = 2  # as in the middle of the busiest time
        ids = await app.tasks["long"].batch_defer_async(*[{}] * 4)
        await until(lambda: set(ids[:2]) <= set(seen.started), "two running jobs")
        assert runner.running == 2
        assert [await app.job_manager.get_job_status_async(each) for each in ids[2:]] == ["todo", "todo"]


class Fetches:
    """How many jobs beyond the free slots each statement wanted, and which jobs came, in order."""

    def __init__(self, app: App, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead: list[int] = []
        self.in_hand: list[int] = []
        execute = async_connector(app).execute_async
        assert worker._shift is not None
        runner = worker._shift._runner

        async def look(statement: Any, connection: Any = None) -> Any:
            if statement.name in ("fetch_jobs", "finish_and_fetch"):
                self.ahead.append(statement.values[-1] - runner.free())
                self.in_hand.append(statement.values[-1] + runner.running)
            return await execute(statement, connection)

        monkeypatch.setattr(app.connector, "execute_async", look)


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_jobs_that_do_nothing_are_fetched_ahead(
    app: App, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """Each batch of them ends before the next statement is sent, none while it is under way."""
    started: list[int] = []

    @app.task(pass_context=True)
    async def nothing(context: JobContext) -> None:
        started.append(context.job.id)

    async with working(app, concurrency=concurrency) as worker:
        await idle(worker)
        fetches = Fetches(app, worker, monkeypatch)
        ids = await nothing.batch_defer_async(*[{}] * 300)
        for each in ids:
            job = await ended(app, each)
            assert (job.status, job.attempts, job.claim) == ("succeeded", 1, 1)
    assert max(fetches.ahead) == concurrency
    assert max(fetches.in_hand) == 2 * concurrency
    assert started == ids
    assert len(fetches.ahead) < 300 / concurrency


async def test_long_jobs_that_end_all_at_once_are_not_fetched_ahead(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    over = [anyio.Event() for _ in range(4)]
    started: list[int] = []

    @app.task(pass_context=True)
    async def long(context: JobContext) -> None:
        started.append(context.job.id)
        await over[(len(started) - 1) // 5].wait()

    async with working(app, concurrency=5) as worker:
        await idle(worker)
        fetches = Fetches(app, worker, monkeypatch)
        ids = await long.batch_defer_async(*[{}] * 20)
        for n, batch in enumerate(over):
            await until(lambda n=n: len(started) >= 5 * (n + 1), "a whole batch that runs")  # type: ignore[misc]
            await anyio.sleep(0.2)  # they are long
            # Before any of them is recorded all have ended, as where a batch is done by somebody else.
            batch.set()
        for each in ids:
            assert (await ended(app, each)).status == "succeeded"
    assert fetches.ahead
    # at most what ends of them while a statement is under way on a machine that is busy otherwise
    assert max(fetches.ahead) <= 2
