"""Jobs run one after another in one task of the event loop: the next one feels nothing of what one does there."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import psycopg
import pytest

from procrastinate_deps import JobContext
from tests.integration.worker_helpers import (
    DEADLINE_S,
    ended,
    events,
    idle,
    make_app,
    one_shot,
    query,
    until,
    working,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from procrastinate_deps import App

VARIABLE = contextvars.ContextVar("variable", default="nothing")
ENDS = "SELECT status::text, count(*), max(attempts) FROM procrastinate_deps.jobs GROUP BY 1 ORDER BY 1"


class Overlap:
    """How many are inside at the same time, in whatever thread."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


# Context variables


@pytest.mark.parametrize("kind", ["never waits", "waits", "thread"])
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_job_sees_no_context_variable_of_another_one(app: App, kind: str, concurrency: int) -> None:
    before, after = [], []

    @app.task(name="never waits")
    async def never_waits(name: str) -> None:
        before.append(VARIABLE.get())
        VARIABLE.set(name)
        after.append(VARIABLE.get() == name)

    @app.task(name="waits")
    async def waits(name: str) -> None:
        before.append(VARIABLE.get())
        VARIABLE.set(name)
        for _ in range(3):
            await anyio.sleep(0.001)
            after.append(VARIABLE.get() == name)

    @app.task(name="thread")
    def thread(name: str) -> None:
        before.append(VARIABLE.get())
        VARIABLE.set(name)
        time.sleep(0.001)
        after.append(VARIABLE.get() == name)

    await app.tasks[kind].batch_defer_async(*[{"name": str(n)} for n in range(9)])
    await one_shot(app, concurrency=concurrency)
    assert before == ["nothing"] * 9
    assert all(after)
    assert VARIABLE.get() == "nothing"


async def test_what_a_job_starts_inherits_its_context(app: App) -> None:
    seen: list[str] = []

    @app.task
    async def start(name: str) -> None:
        VARIABLE.set(name)

        async def look() -> None:
            seen.append(VARIABLE.get())

        await asyncio.create_task(look())
        async with anyio.create_task_group() as group:
            group.start_soon(look)
        await anyio.to_thread.run_sync(lambda: seen.append(VARIABLE.get()))
        called: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: called.set_result(VARIABLE.get()))
        seen.append(await called)

    await start.batch_defer_async({"name": "a"}, {"name": "b"})
    await one_shot(app)
    assert seen == ["a"] * 4 + ["b"] * 4


async def test_a_context_manager_that_sets_a_variable_around_a_wait_can_reset_it(app: App) -> None:
    @app.task
    async def set_and_reset() -> str:
        token = VARIABLE.set("inside")
        await anyio.lowlevel.checkpoint()
        VARIABLE.reset(token)  # refuses a token of another context
        return VARIABLE.get()

    job_id = await set_and_reset.defer_async()
    await one_shot(app)
    assert (await ended(app, job_id)).result == "nothing"


# What depends on the current task


async def _asyncio_timeout() -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(DEADLINE_S)
        return "it did not end"
    return "timed out"


async def _wait_for() -> str:
    try:
        await asyncio.wait_for(asyncio.sleep(DEADLINE_S), 0.01)
    except TimeoutError:
        return "timed out"
    return "it did not end"


async def _move_on_after() -> str:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(DEADLINE_S)
    return "timed out" if scope.cancelled_caught else "it did not end"


async def _asyncio_group() -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(DEADLINE_S))
            group.create_task(_fail())
    except ExceptionGroup as error:
        return "failed" if error.split(ZeroDivisionError)[1] is None else repr(error)
    return "it did not fail"


async def _anyio_group() -> str:
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, DEADLINE_S)
            group.start_soon(_fail)
    except ExceptionGroup as error:
        return "failed" if error.split(ZeroDivisionError)[1] is None else repr(error)
    return "it did not fail"


async def _fail() -> None:
    await anyio.lowlevel.checkpoint()
    raise ZeroDivisionError


async def test_timeouts_scopes_and_groups_work_in_every_job_of_a_slot(app: App) -> None:
    kinds: dict[str, Callable[[], Awaitable[str]]] = {
        each.__name__: each for each in (_asyncio_timeout, _wait_for, _move_on_after, _asyncio_group, _anyio_group)
    }
    cancelling: list[int] = []

    @app.task
    async def use(kind: str) -> str:
        cancelling.append(_this_task().cancelling())
        said = await kinds[kind]()
        await anyio.lowlevel.checkpoint()
        return said

    ids = await use.batch_defer_async(*[{"kind": kind} for kind in kinds] * 3)
    await one_shot(app, concurrency=2)
    results = [(await ended(app, each)).result for each in ids]
    assert results == ["timed out", "timed out", "timed out", "failed", "failed"] * 3
    assert cancelling == [0] * 15


# What a job may do to itself


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError
    return task


async def _cancels_itself_and_returns() -> None:
    _this_task().cancel()


async def _cancels_itself_and_waits() -> None:
    _this_task().cancel()
    await anyio.sleep(DEADLINE_S)


async def _swallows_its_cancellation() -> None:
    _this_task().cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await anyio.sleep(DEADLINE_S)
    await anyio.lowlevel.checkpoint()


async def _cancels_itself_twice_and_swallows_one() -> None:
    _this_task().cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await anyio.sleep(DEADLINE_S)
    _this_task().cancel()


async def _raises_a_cancellation() -> None:
    raise asyncio.CancelledError


async def _leaves_a_scope_that_ends_later() -> None:
    anyio.CancelScope(deadline=anyio.current_time() + 0.05).__enter__()
    await anyio.lowlevel.checkpoint()


async def _leaves_a_scope_that_has_ended() -> None:
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()


async def _is_cancelled_by_a_scope_that_it_leaves() -> None:
    anyio.CancelScope(deadline=anyio.current_time() + 0.01).__enter__()
    await anyio.sleep(DEADLINE_S)


async def _leaves_a_generator_in_a_scope() -> None:
    async def numbers() -> AsyncIterator[int]:
        with anyio.fail_after(0.05):
            yield 1
            yield 2

    async for _ in numbers():
        break


async def _leaves_a_generator_in_a_group() -> None:
    async def numbers() -> AsyncIterator[int]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.01)
            yield 1
            yield 2

    _kept_alive.append(numbers())
    await anext(_kept_alive[-1])


_kept_alive: list[Any] = []

MISDEEDS: dict[str, tuple[Callable[[], Awaitable[None]], str]] = {
    each.__name__: (each, status)
    for each, status in (
        (_cancels_itself_and_returns, "succeeded"),
        (_cancels_itself_and_waits, "failed"),
        (_swallows_its_cancellation, "succeeded"),
        (_cancels_itself_twice_and_swallows_one, "succeeded"),
        (_raises_a_cancellation, "failed"),
        (_leaves_a_scope_that_ends_later, "succeeded"),
        (_leaves_a_scope_that_has_ended, "succeeded"),
        (_is_cancelled_by_a_scope_that_it_leaves, "failed"),
        (_leaves_a_generator_in_a_scope, "succeeded"),
        (_leaves_a_generator_in_a_group, "succeeded"),
    )
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
@pytest.mark.parametrize(("task_timeout", "concurrency"), [(None, 1), (None, 3), (DEADLINE_S, 3)])
async def test_whatever_a_job_does_to_its_task_the_next_ones_do_not_feel_it(
    app: App, misdeed: str, task_timeout: float | None, concurrency: int
) -> None:
    # what asyncio says of generators that are closed in another task is theirs
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    overlap = Overlap()
    do, status = MISDEEDS[misdeed]

    @app.task(timeout=task_timeout)
    async def misbehave() -> None:
        with overlap:
            await do()

    @app.task
    async def innocent() -> int:
        with overlap:
            cancelled = _this_task().cancelling()
            await anyio.sleep(0.1)  # longer than what was left open
            return cancelled

    bad = await misbehave.defer_async()
    ids = await innocent.batch_defer_async({}, {})
    async with working(app, concurrency=concurrency) as worker:
        assert [(await ended(app, each)).result for each in ids] == [0, 0]
        # and it is not one slot the poorer, nor stuck
        await idle(worker)
        ids = await innocent.batch_defer_async(*[{}] * 4)
        assert [(await ended(app, each)).result for each in ids] == [0] * 4
    assert (await ended(app, bad)).status == status
    assert overlap.most == concurrency


async def test_a_timer_that_cancels_an_idle_slot_costs_no_job_its_slot(app: App) -> None:
    tasks: list[asyncio.Task[Any]] = []

    @app.task
    async def leave_a_timer() -> None:
        tasks.append(_this_task())
        asyncio.get_running_loop().call_later(0.05, _this_task().cancel)

    @app.task
    async def innocent() -> None:
        await anyio.lowlevel.checkpoint()

    async with working(app) as worker:
        await idle(worker)
        await ended(app, await leave_a_timer.defer_async())
        await until(lambda: tasks[0].done(), "the end of the slot")
        job = await ended(app, await innocent.defer_async())
        assert job.status == "succeeded"
        assert await events(app, job.id) == []


# Aborts


@pytest.mark.parametrize("hears", [True, False])
async def test_an_abort_ends_that_job_and_no_other(app: App, hears: bool) -> None:
    go_on = anyio.Event()
    begun: set[int] = set()
    ends: dict[int, str] = {}

    @app.task(pass_context=True)
    async def wait(context: JobContext) -> None:
        begun.add(context.job.id)
        try:
            await go_on.wait()
        except anyio.get_cancelled_exc_class():
            ends[context.job.id] = "cancelled"
            if hears:
                raise
        else:
            ends[context.job.id] = "went on"

    async with working(app, concurrency=2) as worker:
        await idle(worker)
        aborted, other = await wait.batch_defer_async({}, {})
        await until(lambda: begun == {aborted, other}, "the first two jobs")
        later = await wait.batch_defer_async({}, {})
        await app.job_manager.cancel_job_by_id_async(aborted, abort=True)
        assert (await ended(app, aborted)).status == ("aborted" if hears else "succeeded")
        await until(lambda: worker._shift is not None and worker._shift._runner.running == 2, "the next job")
        go_on.set()
        for each in (other, *later):
            assert (await ended(app, each)).status == "succeeded"
    assert ends == {aborted: "cancelled"} | dict.fromkeys([other, *later], "went on")


# How many at a time


async def test_never_more_jobs_at_once_than_there_are_slots(app: App, dsn: str) -> None:
    """Functions, coroutine functions that wait and some that don't, while jobs are fetched ahead."""
    overlap, ahead = Overlap(), []

    @app.task
    def function() -> None:
        with overlap:
            time.sleep(0.002)

    @app.task
    async def waits() -> None:
        with overlap:
            await anyio.sleep(0.002)

    @app.task
    async def never_waits() -> None:
        with overlap:
            ahead.append(runner.running)

    @app.task
    async def together() -> None:
        with overlap:
            await until(lambda: overlap.most == 3, "three jobs at a time")

    async with working(app, concurrency=3) as worker:
        await idle(worker)
        assert worker._shift is not None
        runner = worker._shift._runner
        ids = await together.batch_defer_async({}, {}, {})
        while max(ahead, default=0) <= 3 and len(ids) < 3000:
            for task in (function, waits, never_waits, function):
                ids += await task.batch_defer_async(*[{}] * 10)
            await ended(app, ids[-1])
        for each in ids:
            await ended(app, each)
    assert overlap.most == 3
    assert max(ahead) > 3, "nothing was fetched ahead: this test says nothing"
    assert query(dsn, ENDS) == [("succeeded", len(ids), 1)]


# Who gets the event loop


async def test_jobs_that_never_wait_leave_turns_for_the_rest_of_the_worker(app: App, dsn: str) -> None:
    recorded: list[int] = []

    @app.task
    async def compute(last: bool) -> None:
        time.sleep(0.005)  # noqa: ASYNC251 - as a computation does
        if last:
            with psycopg.connect(dsn, autocommit=True) as conn:
                row = conn.execute("SELECT count(*) FROM procrastinate_deps.jobs WHERE status = 'succeeded'").fetchone()
                recorded.append(row[0] if row is not None else -1)

    await compute.batch_defer_async(*[{"last": n == 59} for n in range(60)])
    await one_shot(app, concurrency=60)
    assert recorded[0] > 0, "no end was recorded while the others ran"


async def test_jobs_with_a_slot_are_not_given_back_for_the_slowness_of_others(app: App, dsn: str) -> None:
    @app.task
    async def compute() -> None:
        time.sleep(0.06)  # noqa: ASYNC251 - as a computation does

    # the last one begins after 0.54 s, without ever having waited for a slot
    await compute.batch_defer_async(*[{}] * 10)
    await one_shot(app, concurrency=10)
    assert query(dsn, ENDS) == [("succeeded", 10, 1)]
    assert query(dsn, "SELECT type FROM procrastinate_deps.job_events") == []


async def test_a_slow_json_loads_loses_nothing(dsn: str) -> None:
    """What takes long while an answer is read lets time pass for jobs that have not even begun."""

    def slow(text: str | bytes) -> Any:
        time.sleep(0.05)
        return {}

    app = make_app(dsn, "asyncpg", json_loads=slow)

    @app.task
    async def nothing() -> None:
        await anyio.lowlevel.checkpoint()

    async with app.open_async():
        await nothing.batch_defer_async(*[{}] * 10)
        await one_shot(app, concurrency=5, blocked_loop_threshold=None)
    assert query(dsn, ENDS) == [("succeeded", 10, 1)]


async def test_jobs_that_wait_share_no_task(app: App) -> None:
    """What is kept for each task, as a session of SQLAlchemy's async_scoped_session, is each job's own."""
    tasks: list[asyncio.Task[Any] | None] = []

    @app.task
    async def wait() -> None:
        await anyio.lowlevel.checkpoint()
        tasks.append(asyncio.current_task())

    await wait.batch_defer_async({}, {}, {}, {})
    await one_shot(app)
    assert len(tasks) == len(set(tasks)) == 4
