"""Middleware at work, around jobs that a worker runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import JobContext
from procrastinate_deps.worker import Worker
from tests.integration.worker_helpers import DEADLINE_S, ended, make_app, one_shot, until, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from procrastinate_deps import App


@pytest.fixture
async def app(dsn: str) -> AsyncIterator[App]:
    async with make_app(dsn).open_async() as app:
        yield app


class Diary:
    """Who came when."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def async_one(self, name: str) -> Any:
        async def middleware(call_next: Any, context: JobContext, worker: Worker) -> Any:
            self.lines.append(f"{name} before {context.task.name}")
            value = await call_next()
            self.lines.append(f"{name} after {value}")
            return value

        return middleware

    def sync_one(self, name: str) -> Any:
        def middleware(call_next: Any, context: JobContext, worker: Worker) -> Any:
            self.lines.append(f"{name} before {context.task.name}")
            value = call_next()
            self.lines.append(f"{name} after {value}")
            return value

        return middleware


@pytest.fixture
def diary() -> Diary:
    return Diary()


async def result(app: App, job_id: int) -> Any:
    job = await ended(app, job_id)
    assert job.status == "succeeded", job.error
    return job.result


async def test_the_order_around_an_async_task(app: App, diary: Diary) -> None:
    @app.task(name="t", task_middleware=[diary.async_one("own1"), diary.async_one("own2")])
    async def t() -> str:
        diary.lines.append("task")
        return "x"

    await t.defer_async()
    await one_shot(
        app,
        task_middleware=[diary.async_one("tasks1"), diary.sync_one("not for it"), diary.async_one("tasks2")],
        worker_middleware=[diary.async_one("jobs1"), diary.async_one("jobs2")],
    )
    order = ["jobs1", "jobs2", "tasks1", "tasks2", "own1", "own2"]
    before = [f"{name} before t" for name in order]
    assert diary.lines == [*before, "task", *[f"{name} after x" for name in reversed(order)]]


async def test_the_order_around_a_sync_task_and_their_thread(app: App, diary: Diary) -> None:
    threads: dict[str, int] = {}

    def note(name: str) -> Callable[..., Any]:
        def middleware(call_next: Any, context: JobContext, worker: Worker) -> Any:
            threads[name] = threading.get_ident()
            return call_next()

        return middleware

    async def around_job(call_next: Any, context: JobContext, worker: Worker) -> Any:
        threads["job"] = threading.get_ident()
        return await call_next()

    @app.task(name="t", task_middleware=[note("own"), diary.sync_one("own")])
    def t() -> str:
        threads["task"] = threading.get_ident()
        diary.lines.append("task")
        return "x"

    await t.defer_async()
    await one_shot(
        app,
        task_middleware=[diary.async_one("not for it"), diary.sync_one("tasks"), note("tasks")],
        worker_middleware=[diary.async_one("jobs"), around_job],
    )
    assert diary.lines == [
        "jobs before t", "tasks before t", "own before t", "task", "own after x", "tasks after x", "jobs after x",
    ]  # fmt: skip
    assert threads["job"] == threading.get_ident()
    assert threads["tasks"] == threads["own"] == threads["task"] != threads["job"]


@pytest.mark.parametrize("pass_context", [False, True])
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_arguments_context_worker_and_the_result(app: App, kind: str, pass_context: bool) -> None:
    seen: list[Any] = []

    async def around_job(call_next: Any, context: JobContext, worker: Worker) -> Any:
        seen.append((context, worker))
        context.additional_context["from"] = "outside"
        return [await call_next()]

    async def async_mw(call_next: Any, context: JobContext, worker: Worker) -> Any:
        seen.append((context, worker))
        return {"was": await call_next()}

    def sync_mw(call_next: Any, context: JobContext, worker: Worker) -> Any:
        seen.append((context, worker))
        return {"was": call_next()}

    def body(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if pass_context:
            seen.append((args[0], worker))
        return kwargs["a"]

    # the overloads want to know pass_context
    declare: Any = functools.partial(app.task, name="t", pass_context=pass_context)

    if kind == "async":

        async def in_loop(*args: Any, **kwargs: Any) -> Any:
            return body(args, kwargs)

        declare(task_middleware=[async_mw])(in_loop)
    else:

        def in_thread(*args: Any, **kwargs: Any) -> Any:
            return body(args, kwargs)

        declare(task_middleware=[sync_mw])(in_thread)

    job_id = await app.tasks["t"].defer_async(a=7)
    worker = Worker(app, install_signal_handlers=False, wait=False, worker_middleware=[around_job])
    with anyio.fail_after(DEADLINE_S):
        await worker.run()
    assert await result(app, job_id) == [{"was": 7}]
    contexts, workers = [each[0] for each in seen], {each[1] for each in seen}
    assert len(contexts) == 2 + pass_context
    assert all(each is contexts[0] for each in contexts), "they see the same context"
    assert contexts[0].job.id == job_id
    assert contexts[0].additional_context == {"from": "outside"}
    assert workers == {worker}


@pytest.mark.parametrize("where", ["task_middleware", "worker_middleware"])
async def test_what_a_middleware_may_do(app: App, where: str) -> None:
    runs: list[str] = []

    async def middleware(call_next: Any, context: JobContext, worker: Worker) -> Any:
        match context.task.name:
            case "swallowed":
                try:
                    await call_next()
                except ValueError as error:
                    return f"swallowed {error}"
            case "not called":
                return "instead"
            case "raised":
                await call_next()
                raise LookupError("by the middleware")
            case "again":
                await call_next()
                return await call_next()

    async def boom(name: str) -> str:
        runs.append(name)
        if name == "swallowed":
            raise ValueError("boom")
        return name

    ids = {}
    for name in ("swallowed", "not called", "raised", "again"):
        ids[name] = await app.task(name=name)(boom).defer_async(name=name)
    await one_shot(app, **{where: [middleware]})
    assert await result(app, ids["swallowed"]) == "swallowed boom"
    assert await result(app, ids["not called"]) == "instead"
    assert await result(app, ids["again"]) == "again"
    failed = await ended(app, ids["raised"])
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.startswith("LookupError: by the middleware")
    assert runs == ["swallowed", "raised", "again", "again"]


async def test_the_same_in_a_thread(app: App) -> None:
    def middleware(call_next: Any, context: JobContext, worker: Worker) -> Any:
        if context.task.name == "not called":
            return "instead"
        try:
            return call_next()
        except ValueError as error:
            return f"swallowed {error}"

    def boom() -> str:
        raise ValueError("boom")

    ids = {name: await app.task(name=name)(boom).defer_async() for name in ("swallowed", "not called")}
    await one_shot(app, task_middleware=[middleware])
    assert await result(app, ids["swallowed"]) == "swallowed boom"
    assert await result(app, ids["not called"]) == "instead"


async def test_retries_by_the_error_that_leaves_the_outermost(app: App) -> None:
    async def other_error(call_next: Any, context: JobContext, worker: Worker) -> Any:
        try:
            return await call_next()
        except ValueError as error:
            raise KeyError("another") from error

    runs: list[int] = []

    @app.task(name="t", retry=1, task_middleware=[other_error], pass_context=True)
    async def t(context: JobContext) -> None:
        runs.append(context.attempt)
        raise ValueError("boom")

    job_id = await t.defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert runs == [1, 2]
    assert job.error is not None
    assert job.error.startswith("KeyError: 'another'")
    assert "procrastinate_deps/middleware.py" not in job.error.split("KeyError: 'another'")[0]


async def test_arguments_that_do_not_fit_are_still_told_apart_from_the_tasks_own_errors(app: App, diary: Diary) -> None:
    @app.task(name="t", retry=5, task_middleware=[diary.async_one("own")])
    async def t(a: int) -> None: ...

    job_id = await app.configure_task("t").defer_async(b=1)
    await one_shot(app)
    job = await ended(app, job_id)
    assert (job.status, job.attempts) == ("failed", 1), "another attempt would end the same way"


async def test_a_job_of_an_unknown_task_meets_no_middleware(app: App, diary: Diary) -> None:
    job_id = await app.configure_task("unknown").defer_async()
    await one_shot(app, worker_middleware=[diary.async_one("jobs")])
    assert (await ended(app, job_id)).status == "failed"
    assert diary.lines == []


async def test_an_abort_reaches_the_task_and_the_middleware(app: App) -> None:
    lines: list[str] = []

    async def middleware(call_next: Any, context: JobContext, worker: Worker) -> Any:
        try:
            return await call_next()
        except anyio.get_cancelled_exc_class():
            lines.append("cancelled")
            raise

    @app.task(name="t", task_middleware=[middleware])
    async def t() -> None:
        lines.append("started")
        await anyio.sleep_forever()

    job_id = await t.defer_async()
    async with working(app, worker_middleware=[middleware]):
        await until(lambda: lines, "the start")
        await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
        assert (await ended(app, job_id)).status == "aborted"
    assert lines == ["started", "cancelled", "cancelled"]


@pytest.mark.parametrize("reason", ["timeout", "abort", "shutdown"])
async def test_what_stops_a_job_reaches_the_middleware_after_a_plain_function(app: App, reason: str) -> None:
    returned = anyio.Event()

    async def lingering(call_next: Any, context: JobContext, worker: Worker) -> Any:
        await call_next()
        returned.set()
        await anyio.sleep_forever()

    @app.task(timeout=0.2 if reason == "timeout" else None)
    def plain() -> None: ...

    job_id = await plain.defer_async()
    async with working(app, worker_middleware=[lingering], shutdown_graceful_timeout=0):
        await returned.wait()
        if reason == "abort":
            await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
        if reason != "shutdown":
            await ended(app, job_id)
    job = await app.job_manager.get_job_async(job_id)
    assert job.status == {"timeout": "failed", "abort": "aborted", "shutdown": "todo"}[reason]


@pytest.mark.parametrize("reason", ["abort", "shutdown"])
async def test_what_a_thread_was_told_stops_the_middleware_after_it(app: App, reason: str) -> None:
    begun, told = anyio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def lingering(call_next: Any, context: JobContext, worker: Worker) -> Any:
        await call_next()
        await anyio.sleep_forever()

    @app.task(pass_context=True)
    def plain(context: JobContext) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not context.should_abort():
            told.wait(0.01)

    job_id = await plain.defer_async()
    async with working(app, worker_middleware=[lingering], shutdown_graceful_timeout=0.1):
        await begun.wait()
        if reason == "abort":
            await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
            await ended(app, job_id)
    job = await app.job_manager.get_job_async(job_id)
    assert job.status == {"abort": "aborted", "shutdown": "todo"}[reason]


@pytest.mark.parametrize("limit", ["asyncio", "anyio"])
async def test_a_middlewares_own_time_limit_gives_no_slot_away_while_the_thread_goes_on(app: App, limit: str) -> None:
    limited, release = anyio.Event(), threading.Event()
    now: list[int] = []
    most: list[int] = []

    async def impatient(call_next: Any, context: JobContext, worker: Worker) -> Any:
        asyncio.get_running_loop().call_later(0.05, limited.set)
        if limit == "asyncio":
            async with asyncio.timeout(0.01):
                return await call_next()
        with anyio.fail_after(0.01):
            return await call_next()

    @app.task(pass_context=True)
    def plain(context: JobContext) -> None:
        now.append(context.job.id)
        most.append(len(now))
        release.wait()
        now.remove(context.job.id)

    ids = await plain.batch_defer_async({}, {})
    async with working(app, worker_middleware=[impatient]) as worker:
        await limited.wait()
        await until(lambda: now, "the thread")
        assert worker._shift is not None
        assert worker._shift._runner.running == 1
        release.set()
        jobs = [await ended(app, each) for each in ids]
    assert jobs[0].status == "failed"
    assert "TimeoutError" in (jobs[0].error or "")
    assert set(most) == {1}


async def test_a_worker_that_ends_at_once_does_not_wait_for_such_a_thread(app: App) -> None:
    limited, release = anyio.Event(), threading.Event()

    async def impatient(call_next: Any, context: JobContext, worker: Worker) -> Any:
        asyncio.get_running_loop().call_later(0.05, limited.set)
        async with asyncio.timeout(0.01):
            return await call_next()

    @app.task
    def plain() -> None:
        release.wait()

    job_id = await plain.defer_async()
    try:
        with anyio.fail_after(DEADLINE_S):
            async with working(app, worker_middleware=[impatient]) as worker:
                await limited.wait()
                assert worker._shift is not None
                worker._shift.stop_now()
        assert await app.job_manager.get_job_status_async(job_id) == "todo"
    finally:
        release.set()


async def test_a_timeout_counts_the_middleware_too(app: App) -> None:
    async def slow(call_next: Any, context: JobContext, worker: Worker) -> Any:
        await anyio.sleep_forever()

    @app.task(name="t", timeout=0.05, task_middleware=[slow])
    async def t() -> None: ...

    job_id = await t.defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert job.status == "failed"
    assert "TimeoutError" in (job.error or "")


@pytest.mark.parametrize("kind", ["async", "sync", "thread"])
async def test_a_middleware_stops_the_worker(app: App, kind: str) -> None:
    """After the job that it is around; the others stay."""

    async def async_mw(call_next: Any, context: JobContext, worker: Worker) -> Any:
        worker.stop()
        return await call_next()

    def sync_mw(call_next: Any, context: JobContext, worker: Worker) -> Any:
        worker.stop()
        return call_next()

    def thread_mw(call_next: Any, context: JobContext, worker: Worker) -> Any:
        thread = threading.Thread(target=worker.stop)
        thread.start()
        thread.join()
        return call_next()

    if kind == "async":

        @app.task(name="t")
        async def t_async() -> str:
            return "done"

    else:

        @app.task(name="t")
        def t_sync() -> str:
            return "done"

    first, second = [await app.tasks["t"].defer_async() for _ in range(2)]
    middleware = {"async": async_mw, "sync": sync_mw, "thread": thread_mw}[kind]
    worker = Worker(app, install_signal_handlers=False, fetch_job_polling_interval=300, task_middleware=[middleware])
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # what is done to the loop from another thread, and not in the way meant for it, is an error
    try:
        with anyio.fail_after(DEADLINE_S):
            await worker.run()
    finally:
        loop.set_debug(False)
    assert await result(app, first) == "done"
    assert await app.job_manager.get_job_status_async(second) == "todo"


async def test_context_variables_of_a_middleware_are_seen_by_its_task_alone(app: App) -> None:
    request = contextvars.ContextVar("request", default=0)

    async def middleware(call_next: Any, context: JobContext, worker: Worker) -> Any:
        assert request.get() == 0
        request.set(context.job.id)
        return await call_next()

    @app.task(name="a")
    async def in_loop() -> int:
        return request.get()

    @app.task(name="s")
    def in_thread() -> int:
        return request.get()

    ids = [await task.defer_async() for task in (in_loop, in_thread, in_loop, in_thread)]
    await one_shot(app, worker_middleware=[middleware])
    assert [await result(app, job_id) for job_id in ids] == ids
