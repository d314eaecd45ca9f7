"""A worker that takes all that it has made runnable tells nobody; of what is left the others hear. None polls here."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
import pytest

from procrastinate_deps import JobContext, RetryStrategy
from tests.integration.worker_helpers import ended, idle, job_when, make_app, until, working
from tests.semantics.database import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import App
    from procrastinate_deps.worker import Worker

HOUR_S = 3600.0


@pytest.fixture(params=["psycopg", "asyncpg"])
async def app(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    app = make_app(dsn, request.param)

    @app.task(name="nothing")
    async def nothing() -> None: ...

    async with app.open_async():
        yield app


@contextlib.asynccontextmanager
async def two_workers(app: App, second_queues: list[str]) -> AsyncIterator[tuple[Worker, Worker]]:
    """The first one serves queue "a"; both have one slot and are idle."""
    options = {"fetch_job_polling_interval": HOUR_S, "abort_job_polling_interval": HOUR_S}
    async with working(app, queues=["a"], **options) as first, working(app, queues=second_queues, **options) as second:
        await idle(first)
        await idle(second)
        yield first, second


def worker_id(worker: Worker) -> int:
    assert worker._shift is not None
    assert worker._shift._state.worker_id is not None
    return worker._shift._state.worker_id


async def running_on(first: Worker, second: Worker, app: App, task: str = "parent") -> int:
    """A job that the first worker runs, though both serve its queue: the second one is deaf for a moment."""
    assert second._shift is not None
    listener = second._shift._listener
    unheard: list[str] = []
    hear = listener._hear
    listener._hear = unheard.append  # type: ignore[method-assign, assignment]
    job_id: int = await app.configure_task(task, queue="a").defer_async()
    job = await job_when(app, job_id, "doing")
    assert job.worker_id == worker_id(first)
    await until(lambda: unheard, "what it didn't hear")
    listener._hear = hear  # type: ignore[method-assign]
    return job_id


@pytest.fixture
def go(app: App) -> anyio.Event:
    event = anyio.Event()

    @app.task(name="parent")
    async def parent() -> None:
        await event.wait()

    return event


# What is left


async def test_a_child_in_a_queue_that_only_the_other_worker_serves(app: App, go: anyio.Event) -> None:
    async with two_workers(app, ["b"]) as (_, second):
        parent = await app.configure_task("parent", queue="a").defer_async()
        await job_when(app, parent, "doing")
        child = await app.configure_task("nothing", queue="b", depends_on=parent).defer_async()
        go.set()
        job = await ended(app, child)
        assert (job.status, job.worker_id) == ("succeeded", worker_id(second))


async def test_more_children_than_the_first_worker_can_take(app: App, go: anyio.Event) -> None:
    inside: list[int] = []

    @app.task(name="meet", pass_context=True)
    async def meet(context: JobContext) -> None:
        inside.append(context.job.id)
        await until(lambda: len(inside) == 2, "both children at a time")

    async with two_workers(app, ["a"]) as (first, second):
        parent = await running_on(first, second, app)
        children = [await app.configure_task("meet", queue="a", depends_on=parent).defer_async() for _ in range(2)]
        go.set()
        jobs = [await ended(app, each) for each in children]
        assert {job.worker_id for job in jobs} == {worker_id(first), worker_id(second)}


async def test_a_child_with_a_lock_beside_one_without(app: App, go: anyio.Event) -> None:
    inside: list[int] = []

    @app.task(name="meet", pass_context=True)
    async def meet(context: JobContext) -> None:
        inside.append(context.job.id)
        await until(lambda: len(inside) == 2, "both children at a time")

    async with two_workers(app, ["a"]) as (first, second):
        parent = await running_on(first, second, app)
        children = [
            await app.configure_task("meet", queue="a", lock=lock, depends_on=parent).defer_async()
            for lock in (None, "one")
        ]
        go.set()
        jobs = [await ended(app, each) for each in children]
        assert {job.worker_id for job in jobs} == {worker_id(first), worker_id(second)}


async def test_a_lock_that_is_handed_to_a_queue_of_the_other_worker(app: App, go: anyio.Event) -> None:
    async with two_workers(app, ["b"]) as (_, second):
        holder = await app.configure_task("parent", queue="a", lock="one").defer_async()
        await job_when(app, holder, "doing")
        next_one = await app.configure_task("nothing", queue="b", lock="one").defer_async()
        # It finds the lock held, and lets the job wait for that.
        await idle(second)
        go.set()
        job = await ended(app, next_one)
        assert (job.status, job.worker_id) == ("succeeded", worker_id(second))


async def test_a_queue_of_the_other_worker_that_is_resumed(app: App, go: anyio.Event) -> None:
    async with two_workers(app, ["b"]) as (_, second):
        parent = await app.configure_task("parent", queue="a").defer_async()
        await job_when(app, parent, "doing")
        child = await app.configure_task("nothing", queue="b", depends_on=parent).defer_async()
        await app.job_manager.pause_queue_async("b")
        go.set()
        await job_when(app, child, "todo")
        await idle(second)
        await app.job_manager.resume_queue_async("b")
        assert (await ended(app, child)).worker_id == worker_id(second)


# What has a time to wait for


@pytest.mark.parametrize("what", ["child", "retry"])
async def test_what_waits_for_its_time_when_the_first_worker_has_gone(app: App, go: anyio.Event, what: str) -> None:
    """The second worker must have heard of it when the first one did: nobody tells it when the time comes."""

    @app.task(name="fails at first", pass_context=True, retry=RetryStrategy(max_attempts=1, wait=2))
    async def fails_at_first(context: JobContext) -> None:
        if context.attempt == 1:
            await go.wait()
            raise ValueError

    async with two_workers(app, ["a"]) as (first, second):
        parent = await running_on(first, second, app, "parent" if what == "child" else "fails at first")
        waits = parent
        if what == "child":
            waits = await app.configure_task(
                "nothing", queue="a", depends_on=parent, schedule_in={"seconds": 2}
            ).defer_async()
        go.set()
        job = await job_when(app, waits, "todo")
        assert job.gate == "scheduled"
        first.stop()
        job = await ended(app, waits)
        assert (job.status, job.worker_id) == ("succeeded", worker_id(second))


# What is taken


async def test_a_chain_on_one_worker_is_announced_to_nobody(app: App, dsn: str, go: anyio.Event) -> None:
    async with working(app, queues=["a"], concurrency=2, fetch_job_polling_interval=HOUR_S) as worker:
        await idle(worker)
        async with listening(dsn) as heard:
            parent = await app.configure_task("parent", queue="a").defer_async()
            await job_when(app, parent, "doing")
            last = parent
            for _ in range(20):
                last = await app.configure_task("nothing", queue="a", depends_on=last).defer_async()
            await heard.heard()  # of the deferral of the first one
            go.set()
            assert (await ended(app, last)).status == "succeeded"
            assert await heard.queues() == []
