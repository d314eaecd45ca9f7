"""One worker, in this process, on a real database."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps import JobContext, NotStored, RetryStrategy
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.exceptions import SchemaNotReady
from procrastinate_deps.worker import Worker
from tests.integration.worker_helpers import (
    DEADLINE_S,
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from procrastinate_deps import App


# Milliseconds, as a rule; but the machine may be busy, and whatever was not announced takes minutes here.
PROMPTLY = timedelta(seconds=3)


class Overlap:
    """How many are inside at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


# What runs, and where


async def test_concurrency_is_used_in_full_and_not_exceeded(app: App) -> None:
    overlap = Overlap()

    @app.task
    async def together() -> None:
        with overlap:
            # Nobody goes on before three are here.
            await until(lambda: overlap.most >= 3, "three jobs at a time")

    await together.batch_defer_async(*[{}] * 9)
    await one_shot(app, concurrency=3)
    assert overlap.most == 3
    assert {job.status for job in await app.job_manager.list_jobs_async()} == {"succeeded"}


async def test_plain_functions_run_in_threads_at_the_same_time(app: App) -> None:
    barrier = threading.Barrier(2, timeout=DEADLINE_S)
    threads = set()

    @app.task
    def meet() -> str:
        barrier.wait()
        threads.add(threading.get_ident())
        return "met"

    ids = await meet.batch_defer_async({}, {})
    await one_shot(app, concurrency=2)
    assert len(threads - {threading.get_ident()}) == 2
    assert [(await ended(app, each)).result for each in ids] == ["met", "met"]


async def test_a_plain_function_that_returns_a_coroutine_is_awaited(app: App) -> None:
    async def inner() -> str:
        await anyio.lowlevel.checkpoint()
        return threading.current_thread().name

    @app.task
    def outer() -> Any:
        return inner()

    job_id = await outer.defer_async()
    await one_shot(app)
    assert (await ended(app, job_id)).result == threading.current_thread().name


async def test_higher_priorities_start_first_then_lower_ids(app: App) -> None:
    order: list[str] = []

    @app.task
    async def note(name: str) -> None:
        order.append(name)

    await note.configure(priority=-1).defer_async(name="late")
    await note.defer_async(name="first of two")
    await note.defer_async(name="second of two")
    await note.configure(priority=5).defer_async(name="early")
    await one_shot(app)
    assert order == ["early", "first of two", "second of two", "late"]


async def test_only_the_queues_asked_for_are_served(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    ids = [await nothing.configure(queue=queue).defer_async() for queue in ("a", "b", "c")]
    await one_shot(app, queues=["a", "c"])
    statuses = [await app.job_manager.get_job_status_async(each) for each in ids]
    assert statuses == ["succeeded", "todo", "succeeded"]


async def test_the_context_says_where_the_job_runs(app: App) -> None:
    seen: list[JobContext] = []

    @app.task(pass_context=True)
    async def look(context: JobContext, value: int) -> dict[int, str]:
        seen.append(context)
        context.additional_context["changed"] = value
        return await context.get_parent_statuses_async()

    parent = await look.defer_async(value=1)
    child = await look.configure(depends_on=parent).defer_async(value=2)
    given = {"shared": "yes"}
    await one_shot(app, name="w1", queues=["default"], additional_context=given)
    assert [context.job.id for context in seen] == [parent, child]
    assert all(context.app is app and context.task is look for context in seen)
    assert (seen[0].worker_name, seen[0].worker_queues) == ("w1", ["default"])
    assert [context.additional_context for context in seen] == [given | {"changed": 1}, given | {"changed": 2}]
    assert given == {"shared": "yes"}
    assert not seen[0].should_abort()
    assert (await ended(app, child)).result == {str(parent): "succeeded"}


async def test_a_plain_function_reads_its_parents_from_its_thread(app: App) -> None:
    @app.task
    def fail() -> None:
        raise ValueError

    @app.task(pass_context=True)
    def child(context: JobContext) -> dict[int, str]:
        return context.get_parent_statuses()

    parent = await fail.defer_async()
    job_id = await child.configure(depends_on=parent).defer_async()
    await one_shot(app)
    assert (await ended(app, job_id)).result == {str(parent): "failed"}


# Waking up


async def test_a_job_deferred_to_an_idle_worker_starts_at_once(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    async with working(app) as worker:
        await idle(worker)
        job = await ended(app, await nothing.defer_async())
    assert job.started_at is not None
    assert job.started_at - job.created_at < PROMPTLY


@pytest.mark.parametrize("how", ["finished by hand", "finished by this worker", "deleted"])
async def test_a_child_of_an_idle_worker_starts_within_milliseconds(app: App, dsn: str, how: str) -> None:
    @app.task
    async def nothing() -> None: ...

    here = how == "finished by this worker"
    async with working(app, queues=["mine"]) as worker:
        parent = await nothing.configure(
            queue="mine" if here else "elsewhere", schedule_in={"seconds": 0.3}
        ).defer_async()
        child = await nothing.configure(queue="mine", depends_on=parent).defer_async()
        await idle(worker)
        released = datetime.now(UTC)
        match how:
            case "finished by hand":
                query(dsn, "UPDATE procrastinate_deps.jobs SET status = 'cancelled' WHERE id = %s", parent)
            case "deleted":
                query(dsn, "DELETE FROM procrastinate_deps.jobs WHERE id = %s", parent)
            case _:
                released = (await ended(app, parent)).finished_at or released
        job = await ended(app, child)
    assert job.started_at is not None
    assert job.started_at - released < PROMPTLY


@pytest.mark.parametrize("question", ["fetch_jobs", "next_due"])
async def test_an_announcement_while_an_answer_is_under_way_is_not_lost(
    app: App, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    """The worker must forget earlier announcements before it asks, not after the answers."""

    @app.task
    async def nothing() -> None: ...

    deferred: list[int] = []
    assert isinstance(app.connector, AsyncConnector)
    execute = app.connector.execute_async
    async with working(app) as worker:
        await idle(worker)
        shift = worker._shift
        assert shift is not None

        async def slow_answer(statement: Any, connection: Any = None) -> Any:
            answer = await execute(statement, connection)
            if statement.name == question and not deferred:
                # The answer is on its way: the database knew of nothing, and then there is a job.
                assert not answer
                deferred.append(await nothing.defer_async())
                await until(shift._state.fetch.is_set, "the announcement")
            return answer

        monkeypatch.setattr(app.connector, "execute_async", slow_answer)
        shift._state.fetch.set()
        await until(lambda: deferred, "a fetch")
        assert (await ended(app, deferred[0])).status == "succeeded"


async def test_a_job_starts_when_its_time_comes(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    late: list[float] = []
    async with working(app) as worker:
        await idle(worker)
        for _ in range(5):
            job = await ended(app, await nothing.configure(schedule_in={"seconds": 0.3}).defer_async())
            assert job.started_at is not None
            assert job.scheduled_at is not None
            late.append((job.started_at - job.scheduled_at).total_seconds())
    assert min(late) >= 0
    # the best of five, since the machine may be busy
    assert min(late) < 0.1


async def test_a_retry_without_a_wait_is_immediate(app: App) -> None:
    started: list[float] = []

    @app.task(retry=RetryStrategy(max_attempts=2), pass_context=True)
    async def fail(context: JobContext) -> int:
        started.append(time.monotonic())
        if context.attempt <= 2:
            raise ValueError(f"attempt {context.attempt}")
        return context.attempt

    async with working(app, concurrency=2) as worker:
        await idle(worker)
        job = await ended(app, await fail.defer_async())
    assert (job.status, job.result, job.attempts) == ("succeeded", 3, 3)
    assert started[2] - started[0] < 5
    assert await events(app, job.id) == ["attempt_failed", "attempt_failed"]


async def test_a_retry_waits_as_its_strategy_says(app: App) -> None:
    started: list[float] = []

    @app.task(retry=RetryStrategy(max_attempts=1, wait=0.4))
    async def fail() -> None:
        started.append(time.monotonic())
        raise ValueError("again")

    async with working(app) as worker:
        await idle(worker)
        job = await ended(app, await fail.defer_async())
    assert job.status == "failed"
    assert 0.35 < started[1] - started[0] < 10


async def test_jobs_of_one_lock_run_one_at_a_time_in_order_and_hand_it_over_at_once(app: App) -> None:
    overlap, order = Overlap(), []

    @app.task(lock="one")
    async def locked(name: int) -> None:
        with overlap:
            order.append(name)
            await anyio.sleep(0.01)

    async with working(app, concurrency=4) as worker:
        await idle(worker)
        began = time.monotonic()
        ids = await locked.batch_defer_async(*[{"name": n} for n in range(6)])
        urgent = await locked.configure(priority=1).defer_async(name=100)
        for each in (*ids, urgent):
            assert (await ended(app, each)).status == "succeeded"
    assert overlap.most == 1
    assert [name for name in order if name < 100] == list(range(6))
    assert order.index(100) <= 2
    assert time.monotonic() - began < 5


async def test_polling_finds_what_is_not_announced(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    async with working(app, listen_notify=False, fetch_job_polling_interval=0.1) as worker:
        await idle(worker)
        assert (await ended(app, await nothing.defer_async())).status == "succeeded"


async def test_the_listener_comes_back_when_its_connection_was_terminated(app: App, dsn: str) -> None:
    @app.task
    async def nothing() -> None: ...

    def listening() -> set[int]:
        rows = query(
            dsn, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen %%'"
        )
        return {row[0] for row in rows}

    async with working(app) as worker:
        await idle(worker)
        before = listening()
        assert len(before) == 1
        query(dsn, "SELECT pg_terminate_backend(%s)", *before)
        await until(lambda: listening() - before, "a new listening connection")
        await idle(worker)
        job = await ended(app, await nothing.defer_async())
    assert job.started_at is not None
    assert job.started_at - job.created_at < PROMPTLY


async def test_what_was_announced_while_the_listener_was_deaf_is_found_when_it_hears_again(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    async def nothing() -> None: ...

    assert isinstance(app.connector, AsyncConnector)
    listen = app.connector.listen
    deferred: list[int] = []

    @contextlib.asynccontextmanager
    async def listen_late(channel: str, listen_dsn: str | None) -> AsyncIterator[Any]:
        deferred.append(await nothing.defer_async())
        async with listen(channel, listen_dsn) as listener:
            yield listener

    async with working(app) as worker:
        await idle(worker)
        monkeypatch.setattr(app.connector, "listen", listen_late)
        query(
            dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ILIKE 'listen %%'",
        )
        await until(lambda: deferred, "the next try to listen")
        assert (await ended(app, deferred[0])).status == "succeeded"


async def test_a_worker_outlives_the_loss_of_all_its_connections(app: App, dsn: str) -> None:
    going_on = anyio.Event()

    @app.task
    async def wait() -> None:
        await going_on.wait()

    async with working(app, concurrency=2, update_heartbeat_interval=0.5) as worker:
        await idle(worker)
        job_id = await wait.defer_async()
        await job_when(app, job_id, "doing")
        query(
            dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        going_on.set()
        await until(
            lambda: query(dsn, "SELECT 1 FROM procrastinate_deps.jobs WHERE status = 'succeeded'"), "the job's end"
        )
    assert query(dsn, "SELECT attempts FROM procrastinate_deps.jobs") == [(1,)]


# How jobs end


async def test_the_error_is_stored_with_its_traceback(app: App) -> None:
    @app.task
    async def explode() -> None:
        raise ValueError("boom \0")

    job_id = await explode.defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith("ValueError: boom \\x00\n\nTraceback")
    assert "in explode" in job.error
    assert "procrastinate_deps/worker" not in job.error


async def test_a_task_that_exits_fails_and_the_worker_lives(app: App) -> None:
    @app.task
    async def leave() -> None:
        raise SystemExit(3)

    @app.task
    def leave_thread() -> None:
        raise SystemExit(4)

    @app.task
    async def nothing() -> None: ...

    ids = [await task.defer_async() for task in (leave, leave_thread, nothing)]
    await one_shot(app)
    jobs = [await ended(app, each) for each in ids]
    assert [job.status for job in jobs] == ["failed", "failed", "succeeded"]
    assert jobs[0].error is not None
    assert jobs[0].error.startswith("SystemExit: 3")


async def test_a_task_that_cancels_itself_fails_and_the_worker_lives(app: App) -> None:
    @app.task
    async def cancel_myself() -> None:
        raise anyio.get_cancelled_exc_class()

    job_id = await cancel_myself.defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert "CancelledError" in job.error


async def test_an_unknown_task_fails_and_says_what_to_do(app: App) -> None:
    job_id = await app.configure_task("gone.missing").defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith("procrastinate_deps.exceptions.TaskNotFound: task 'gone.missing' is not known")


@pytest.mark.parametrize("in_thread", [False, True])
async def test_arguments_that_do_not_fit_fail_without_a_retry(app: App, in_thread: bool) -> None:
    async def coroutine(a: int) -> None: ...

    def function(a: int) -> None: ...

    app.task(name="strict", retry=True)(function if in_thread else coroutine)
    job_id = await app.configure_task("strict").defer_async(b=1)
    await one_shot(app)
    job = await ended(app, job_id)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert job.error.startswith("TypeError: ")


async def test_a_type_error_of_the_task_itself_is_retried(app: App) -> None:
    @app.task(retry=1)
    async def confused() -> None:
        raise TypeError("from within")

    job_id = await confused.defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert (job.status, job.attempts) == ("failed", 2)


async def test_a_result_that_is_not_json_is_no_failure(app: App) -> None:
    @app.task
    async def make() -> object:
        return object()

    job_id = await make.defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert job.status == "succeeded"
    assert isinstance(job.result, NotStored)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_task_that_runs_too_long_fails(app: App, in_thread: bool) -> None:
    @app.task(timeout=0.2, name="slow_thread", pass_context=True)
    def thread(context: JobContext) -> None:
        while not context.should_abort():
            time.sleep(0.01)

    @app.task(timeout=0.2)
    async def slow() -> None:
        await anyio.sleep_forever()

    job_id = await (thread.defer_async() if in_thread else slow.defer_async())
    await one_shot(app)
    job = await ended(app, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith("TimeoutError: task ")
    assert "ran longer than its timeout of 0.2 s" in job.error


async def test_a_timeout_is_retried_as_any_error(app: App) -> None:
    @app.task(timeout=0.1, retry=RetryStrategy(max_attempts=1, retry_exceptions=[TimeoutError]))
    async def slow() -> None:
        await anyio.sleep_forever()

    job_id = await slow.defer_async()
    await one_shot(app)
    job = await ended(app, job_id)
    assert (job.status, job.attempts) == ("failed", 2)


@pytest.mark.parametrize(("delete", "left"), [("never", 2), ("successful", 1), ("always", 0)])
async def test_jobs_that_ended_are_deleted_as_asked(app: App, delete: str, left: int) -> None:
    @app.task
    async def maybe(fail: bool) -> None:
        if fail:
            raise ValueError

    await maybe.batch_defer_async({"fail": True}, {"fail": False})
    await one_shot(app, delete_jobs=delete)
    assert len(list(await app.job_manager.list_jobs_async())) == left


# Aborting


async def test_an_aborted_coroutine_is_cancelled_and_not_retried(app: App) -> None:
    cleaned_up = []

    @app.task(retry=True)
    async def endless() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned_up.append(True)

    async with working(app) as worker:
        await idle(worker)
        job_id = await endless.defer_async()
        await job_when(app, job_id, "doing")
        assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
        job = await ended(app, job_id)
    assert (job.status, job.attempts, cleaned_up) == ("aborted", 1, [True])


async def test_an_aborted_thread_is_told(app: App) -> None:
    @app.task(pass_context=True)
    def obey(context: JobContext) -> None:
        from procrastinate_deps.exceptions import JobAborted

        while not context.should_abort():
            time.sleep(0.01)
        raise JobAborted

    @app.task(pass_context=True)
    def finish_anyway(context: JobContext) -> str:
        while not context.should_abort():
            time.sleep(0.01)
        return str(context.abort_reason())

    async with working(app, concurrency=2) as worker:
        await idle(worker)
        ids = [await obey.defer_async(), await finish_anyway.defer_async()]
        for each in ids:
            await job_when(app, each, "doing")
            await app.job_manager.cancel_job_by_id_async(each, abort=True)
        jobs = [await ended(app, each) for each in ids]
    assert [job.status for job in jobs] == ["aborted", "succeeded"]
    assert jobs[1].result == "AbortReason.USER_REQUEST"


async def test_an_abort_is_found_by_polling(app: App) -> None:
    @app.task
    async def endless() -> None:
        await anyio.sleep_forever()

    job_id = await endless.defer_async()
    async with working(app, listen_notify=False, abort_job_polling_interval=0.1):
        await job_when(app, job_id, "doing")
        await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
        assert (await ended(app, job_id)).status == "aborted"


async def test_a_job_aborted_while_its_row_is_on_its_way_ends_aborted(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    @app.task
    async def endless() -> None:
        started.append(True)
        await anyio.sleep_forever()

    assert isinstance(app.connector, AsyncConnector)
    execute = app.connector.execute_async
    async with working(app) as worker:
        await idle(worker)

        async def slow_answer(statement: Any, connection: Any = None) -> Any:
            answer = await execute(statement, connection)
            if statement.name == "fetch_jobs" and answer:
                shift = worker._shift
                assert shift is not None
                await app.job_manager.cancel_job_by_id_async(answer[0].id, abort=True)
                await until(lambda: shift._runner._aborted_early, "the request to abort")
            return answer

        monkeypatch.setattr(app.connector, "execute_async", slow_answer)
        job = await ended(app, await endless.defer_async())
    assert (job.status, started) == ("aborted", [])


# Stopping


async def test_one_shot_runs_what_becomes_runnable_and_leaves_what_is_scheduled(app: App) -> None:
    @app.task
    async def parent() -> None: ...

    @app.task(retry=1)
    async def child() -> None:
        raise ValueError

    first = await parent.defer_async()
    second = await child.configure(depends_on=first).defer_async()
    last = await parent.configure(depends_on=second).defer_async()
    later = await parent.configure(schedule_in={"hours": 1}).defer_async()
    await one_shot(app)
    statuses = [await app.job_manager.get_job_status_async(each) for each in (first, second, last, later)]
    assert statuses == ["succeeded", "failed", "succeeded", "todo"]


async def test_one_shot_returns_where_there_is_nothing(app: App) -> None:
    await one_shot(app)
    assert await app.job_manager.list_workers_async() == []


async def test_a_stopping_worker_waits_for_its_jobs_and_starts_no_others(app: App) -> None:
    go_on = anyio.Event()

    @app.task
    async def wait() -> str:
        await go_on.wait()
        return "done"

    async with anyio.create_task_group() as group:
        worker = Worker(app, install_signal_handlers=False)
        group.start_soon(worker.run)
        first = await wait.defer_async()
        await job_when(app, first, "doing")
        worker.stop()
        second = await wait.defer_async()
        go_on.set()
    assert (await ended(app, first)).result == "done"
    assert await app.job_manager.get_job_status_async(second) == "todo"
    assert await app.job_manager.list_workers_async() == []


async def test_a_worker_stopped_before_it_runs_fetches_nothing(app: App) -> None:
    @app.task
    async def nothing() -> None: ...

    job_id = await nothing.defer_async()
    worker = Worker(app, install_signal_handlers=False)
    worker.stop()
    with anyio.fail_after(DEADLINE_S):
        await worker.run()
    assert await app.job_manager.get_job_status_async(job_id) == "todo"


async def test_after_the_graceful_timeout_jobs_are_stopped_and_put_back(app: App) -> None:
    reasons = []

    @app.task(pass_context=True)
    async def endless(context: JobContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(context.abort_reason())

    @app.task(pass_context=True)
    def thread(context: JobContext) -> None:
        from procrastinate_deps.exceptions import JobAborted

        while not context.should_abort():
            time.sleep(0.01)
        reasons.append(context.abort_reason())
        raise JobAborted

    ids = [await endless.defer_async(), await thread.defer_async()]
    async with anyio.create_task_group() as group:
        worker = Worker(app, install_signal_handlers=False, shutdown_graceful_timeout=0.2, concurrency=2)
        group.start_soon(worker.run)
        for each in ids:
            await job_when(app, each, "doing")
        worker.stop()
    jobs = [await job_when(app, each, "todo") for each in ids]
    assert [str(reason) for reason in reasons] == ["AbortReason.SHUTDOWN"] * 2
    assert [job.error for job in jobs] == [None, None]
    assert [await events(app, job.id) for job in jobs] == [["requeued"]] * 2


@pytest.mark.parametrize("native", [False, True])
async def test_a_cancelled_worker_stops_gracefully_and_is_then_cancelled(app: App, native: bool) -> None:
    import asyncio

    go_on = anyio.Event()

    @app.task
    async def wait() -> str:
        await go_on.wait()
        return "done"

    worker = Worker(app, install_signal_handlers=False)
    outcome = []
    cancel: list[Callable[[], Any]] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        with anyio.CancelScope() as scope:
            cancel.append(task.cancel if native else scope.cancel)
            try:
                await worker.run()
            except anyio.get_cancelled_exc_class():
                outcome.append("cancelled")
                if not native:
                    raise
                task.uncancel()

    job_id = await wait.defer_async()
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await job_when(app, job_id, "doing")
        cancel[0]()
        await until(lambda: worker._shift is not None and worker._shift._state.stopping, "the worker is stopping")
        assert outcome == []
        go_on.set()
    assert outcome == ["cancelled"]
    assert (await ended(app, job_id)).result == "done"
    assert await app.job_manager.list_workers_async() == []


async def test_a_loop_that_fails_ends_the_worker_with_its_error_and_puts_the_jobs_back(app: App, dsn: str) -> None:
    @app.task
    async def endless() -> None:
        await anyio.sleep_forever()

    job_id = await endless.defer_async()
    worker = Worker(app, install_signal_handlers=False, concurrency=2, fetch_job_polling_interval=0.1)
    async with anyio.create_task_group() as group:
        group.start_soon(_break_fetching, app, dsn, job_id)
        with pytest.raises(SchemaNotReady, match="fetch_jobs"), anyio.fail_after(DEADLINE_S):
            await worker.run()
    assert await app.job_manager.get_job_status_async(job_id) == "todo"


async def test_a_worker_refuses_a_database_without_the_schema(empty_dsn: str) -> None:
    app = make_app(empty_dsn)
    async with app.open_async():
        with pytest.raises(SchemaNotReady, match="migrate"):
            await Worker(app, install_signal_handlers=False).run()


@pytest.mark.parametrize("cancels", [1, 2])
async def test_a_second_cancellation_stops_at_once(app: App, cancels: int) -> None:
    import asyncio

    go_on = anyio.Event()

    @app.task
    async def wait() -> None:
        await go_on.wait()

    worker = Worker(app, install_signal_handlers=False)
    tasks: list[asyncio.Task[Any]] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        try:
            await worker.run()
        except asyncio.CancelledError:
            while task.uncancel():
                pass

    job_id = await wait.defer_async()
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await job_when(app, job_id, "doing")
        tasks[0].cancel()
        await until(lambda: worker._shift is not None and worker._shift._state.stopping, "the first one's arrival")
        if cancels == 2:
            tasks[0].cancel()
        else:
            go_on.set()
    assert await app.job_manager.get_job_status_async(job_id) == ("succeeded" if cancels == 1 else "todo")


async def test_a_signal_stops_the_worker_and_the_handlers_from_before_come_back(app: App) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with anyio.create_task_group() as group:
        worker = Worker(app, fetch_job_polling_interval=300)
        group.start_soon(worker.run)
        await idle(worker)
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] != before
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_worker_cannot_run_twice_at_once(app: App) -> None:
    async with working(app) as worker:
        await idle(worker)
        with pytest.raises(RuntimeError, match="runs already"):
            await worker.run()


# The registration


async def test_a_worker_is_registered_while_it_runs(app: App) -> None:
    async with working(app, name="w1", queues=["b", "a"], concurrency=3) as worker:
        await idle(worker)
        (info,) = await app.job_manager.list_workers_async()
        assert (info.name, info.queues, info.concurrency) == ("w1", ["a", "b"], 3)
    assert await app.job_manager.list_workers_async() == []


async def test_the_heartbeat_is_renewed(app: App) -> None:
    async with working(app, update_heartbeat_interval=0.05, stalled_worker_timeout=10) as worker:
        await idle(worker)
        (before,) = await app.job_manager.list_workers_async()
        deadline = time.monotonic() + DEADLINE_S
        while (await app.job_manager.list_workers_async())[0].heartbeat_at <= before.heartbeat_at:
            assert time.monotonic() < deadline
            await anyio.sleep(0.01)


async def test_a_worker_that_was_declared_lost_drops_its_jobs_and_registers_again(app: App, dsn: str) -> None:
    starts = []
    reasons = []

    @app.task(pass_context=True)
    async def endless_once(context: JobContext) -> str:
        starts.append(context.job.worker_id)
        if len(starts) == 1:
            try:
                await anyio.sleep_forever()
            finally:
                reasons.append(str(context.abort_reason()))
        return "second run"

    options = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 4}
    async with working(app, **options) as worker:
        await idle(worker)
        job_id = await endless_once.defer_async()
        await job_when(app, job_id, "doing")
        query(dsn, "UPDATE procrastinate_deps.workers SET lost_at = now()")
        job = await ended(app, job_id)
    assert job.result == "second run"
    assert job.rescues == 1
    assert reasons == ["AbortReason.LOST"]
    assert starts[0] != starts[1]


async def test_a_fetch_that_hears_of_the_loss_makes_the_worker_register_again(app: App, dsn: str) -> None:
    @app.task
    async def nothing() -> None: ...

    async with working(app, update_heartbeat_interval=300, stalled_worker_timeout=600) as worker:
        await idle(worker)
        query(dsn, "UPDATE procrastinate_deps.workers SET lost_at = now()")
        job = await ended(app, await nothing.defer_async())
    assert job.status == "succeeded"


async def test_a_worker_that_cannot_renew_its_heartbeat_stops_what_it_runs(app: App, dsn: str) -> None:
    reasons = []

    @app.task(pass_context=True)
    async def endless(context: JobContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(str(context.abort_reason()))

    options = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 1, "shutdown_graceful_timeout": 0}
    async with working(app, **options) as worker:
        await idle(worker)
        job_id = await endless.defer_async()
        first = await job_when(app, job_id, "doing")
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            # Whoever holds the row keeps the heartbeat from being written.
            await conn.execute("SELECT FROM procrastinate_deps.workers FOR UPDATE")
            await until(lambda: reasons, "the end of the run")
            await until(lambda: query(dsn, "SELECT FROM procrastinate_deps.workers OFFSET 1"), "a new registration")
        # The old registration is declared lost, so that the job runs once more, under the new one.
        await until(lambda: query(dsn, "SELECT FROM procrastinate_deps.jobs WHERE claim = 2"), "a second run")
        second = await job_when(app, job_id, "doing")
    assert reasons[0] == "AbortReason.LOST"
    assert second.rescues >= 1
    assert second.worker_id != first.worker_id


# Ends that can't be recorded at once


# An open transaction of someone else


async def test_an_open_transaction_with_a_new_child_delays_its_parents_end(
    app: App, dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procrastinate_deps.worker.finisher.SAY_WHO_HOLDS_AFTER_S", 0.2)
    go_on = anyio.Event()

    @app.task
    async def parent() -> None:
        await go_on.wait()

    @app.task
    async def other() -> None: ...

    async with working(app) as worker:
        await idle(worker)
        parent_id = await parent.defer_async()
        await job_when(app, parent_id, "doing")
        async with await psycopg.AsyncConnection.connect(dsn, application_name="slowcoach") as conn:
            child_id = await other.configure(depends_on=parent_id, connection=conn).defer_async()
            go_on.set()
            # The slot is free meanwhile, and other ends are recorded.
            assert (await ended(app, await other.defer_async())).status == "succeeded"
            await until(lambda: any(r.__dict__.get("action") == "job_held" for r in caplog.records), "who holds it")
            assert await app.job_manager.get_job_status_async(parent_id) == "doing"
            await conn.commit()
        assert (await ended(app, parent_id)).status == "succeeded"
        child = await ended(app, child_id)
        assert child.status == "succeeded"
    held = [r for r in caplog.records if r.__dict__.get("action") == "job_held"]
    assert len(held) == 1
    assert "slowcoach" in held[0].getMessage()
    assert (await ended(app, parent_id)).attempts == 1


async def test_a_cascade_that_has_to_wait_holds_up_no_other_end(app: App, dsn: str) -> None:
    """The end of `first` would cancel its child, to which an open transaction has just added a child of its own."""
    go_on = anyio.Event()

    @app.task
    async def fail() -> None:
        await go_on.wait()
        raise ValueError

    @app.task
    async def wait() -> None:
        await go_on.wait()

    async with working(app, concurrency=3) as worker:
        await idle(worker)
        first, *others = [await fail.defer_async(), await wait.defer_async(), await wait.defer_async()]
        doomed = await wait.configure(depends_on=first, run_when="all_succeeded").defer_async()
        for each in (first, *others):
            await job_when(app, each, "doing")
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            last = await wait.configure(depends_on=doomed, connection=conn).defer_async()
            # All three end in one batch, which the first of them spoils.
            go_on.set()
            for each in others:
                assert (await ended(app, each)).status == "succeeded"
            assert await app.job_manager.get_job_status_async(first) == "doing"
            await conn.commit()
        jobs = [await ended(app, each) for each in (first, doomed, last)]
    assert [job.status for job in jobs] == ["failed", "cancelled", "succeeded"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_result_that_the_database_refuses_keeps_no_job_from_ending(dsn: str, driver: str) -> None:
    app = make_app(dsn, driver, json_dumps=lambda value: "{broken" if value == "broken" else json.dumps(value))

    @app.task
    async def give(value: str) -> str:
        return value

    async with app.open_async():
        ids = await give.batch_defer_async({"value": "broken"}, {"value": "sound"})
        await one_shot(app, concurrency=2)
        jobs = [await ended(app, each) for each in ids]
    assert [job.status for job in jobs] == ["succeeded", "succeeded"]
    assert isinstance(jobs[0].result, NotStored)
    assert jobs[1].result == "sound"


async def test_a_stopping_worker_waits_for_held_ends_no_longer_than_for_jobs(app: App, dsn: str) -> None:
    go_on = anyio.Event()

    @app.task
    async def parent() -> None:
        await go_on.wait()

    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        async with working(app, shutdown_graceful_timeout=0.5) as worker:
            await idle(worker)
            parent_id = await parent.defer_async()
            await job_when(app, parent_id, "doing")
            child_id = await parent.configure(depends_on=parent_id, connection=conn).defer_async()
            go_on.set()
            await until(lambda: worker._shift is not None and worker._shift._finisher._late, "an end that is held")
            began = time.monotonic()
        assert time.monotonic() - began < 5
        assert await app.job_manager.get_job_status_async(parent_id) == "doing"
        await conn.commit()
    # The worker has left, so that the next one takes the job back.
    async with working(app, stalled_worker_timeout=3, update_heartbeat_interval=0.2):
        assert (await ended(app, child_id)).status == "succeeded"
    assert (await ended(app, parent_id)).rescues == 1


async def _break_fetching(app: App, dsn: str, job_id: int) -> None:
    await job_when(app, job_id, "doing")
    query(dsn, "ALTER FUNCTION procrastinate_deps.fetch_jobs(text[], bigint, integer, boolean) RENAME TO gone")
