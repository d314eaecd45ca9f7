"""A worker stops, aborts jobs, and is registered while it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps import JobContext, statements
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.exceptions import JobAborted, SchemaNotReady
from procrastinate_deps.worker import Worker
from procrastinate_deps.worker.statistics import Statistics
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
    from collections.abc import Callable

    from procrastinate_deps import App


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
    begun: list[int] = []

    @app.task(pass_context=True)
    def obey(context: JobContext) -> None:
        from procrastinate_deps.exceptions import JobAborted

        begun.append(context.job.id)
        while not context.should_abort():
            time.sleep(0.01)
        raise JobAborted

    @app.task(pass_context=True)
    def finish_anyway(context: JobContext) -> str:
        begun.append(context.job.id)
        while not context.should_abort():
            time.sleep(0.01)
        return str(context.abort_reason())

    async with working(app, concurrency=2) as worker:
        await idle(worker)
        ids = [await obey.defer_async(), await finish_anyway.defer_async()]
        await until(lambda: sorted(begun) == ids, "both jobs' begin")
        for each in ids:
            await app.job_manager.cancel_job_by_id_async(each, abort=True)
        jobs = [await ended(app, each) for each in ids]
    assert [job.status for job in jobs] == ["aborted", "succeeded"]
    assert jobs[1].result == "AbortReason.USER_REQUEST"


async def test_an_abort_is_told_to_the_run_that_the_database_knows(app: App, dsn: str) -> None:
    """Beside it there may be one in a thread that never asks, of the time before the worker was lost."""
    release = threading.Event()
    begun: list[int] = []
    lost: set[int] = set()

    @app.task(pass_context=True)
    def run(context: JobContext) -> None:
        begun.append(context.job.id)
        if context.job.id not in lost:
            lost.add(context.job.id)
            release.wait()
            return
        while not context.should_abort() and not release.is_set():
            time.sleep(0.01)
        if context.should_abort():
            raise JobAborted

    options = {"update_heartbeat_interval": 0.1, "stalled_worker_timeout": 4, "abort_job_polling_interval": 0.1}
    async with working(app, concurrency=12, **options) as worker:
        await idle(worker)
        # In which order a worker looks at its runs is chance.
        ids = await run.batch_defer_async(*[{}] * 6)
        await until(lambda: len(begun) == 6, "the first runs")
        query(dsn, "UPDATE procrastinate_deps.workers SET lost_at = now()")
        await until(lambda: len(begun) == 12, "the second runs")
        try:
            for each in ids:
                await app.job_manager.cancel_job_by_id_async(each, abort=True)
            jobs = [await ended(app, each) for each in ids]
        finally:
            release.set()
    assert {job.status for job in jobs} == {"aborted"}


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
    begun, go_on = anyio.Event(), anyio.Event()

    @app.task
    async def wait() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with anyio.create_task_group() as group:
        worker = Worker(app, install_signal_handlers=False)
        group.start_soon(worker.run)
        first = await wait.defer_async()
        await begun.wait()
        worker.stop()
        second = await wait.defer_async()
        go_on.set()
    assert (await ended(app, first)).result == "done"
    assert await app.job_manager.get_job_status_async(second) == "todo"
    assert await app.job_manager.list_workers_async() == []


async def test_a_loop_that_is_cancelled_while_the_worker_stops_begins_no_statement(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be cut off, and its connection lost."""
    begun = []
    assert isinstance(app.connector, AsyncConnector)
    execute = app.connector.execute_async

    async def noting(statement: Any, connection: Any = None) -> Any:
        begun.append(statement)
        return await execute(statement, connection)

    async with working(app) as worker:
        await idle(worker)
        assert worker._shift is not None
        state = worker._shift._state
        statement = statements.jobs_to_abort(state.worker_id or 0)
        monkeypatch.setattr(app.connector, "execute_async", noting)
        worker.stop()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await state.execute(statement)
        assert scope.cancelled_caught
    assert begun
    assert statement not in begun


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
    begun = []
    reasons = []

    @app.task(pass_context=True)
    async def endless(context: JobContext) -> None:
        begun.append(context.job.id)
        try:
            await anyio.sleep_forever()
        finally:
            reasons.append(context.abort_reason())

    @app.task(pass_context=True)
    def thread(context: JobContext) -> None:
        from procrastinate_deps.exceptions import JobAborted

        begun.append(context.job.id)
        while not context.should_abort():
            time.sleep(0.01)
        reasons.append(context.abort_reason())
        raise JobAborted

    ids = [await endless.defer_async(), await thread.defer_async()]
    async with anyio.create_task_group() as group:
        worker = Worker(app, install_signal_handlers=False, shutdown_graceful_timeout=0.2, concurrency=2)
        group.start_soon(worker.run)
        await until(lambda: sorted(begun) == ids, "both jobs' begin")
        worker.stop()
    jobs = [await job_when(app, each, "todo") for each in ids]
    assert [str(reason) for reason in reasons] == ["AbortReason.SHUTDOWN"] * 2
    assert [job.error for job in jobs] == [None, None]
    assert [await events(app, job.id) for job in jobs] == [["requeued"]] * 2


@pytest.mark.parametrize("native", [False, True])
async def test_a_cancelled_worker_stops_gracefully_and_is_then_cancelled(app: App, native: bool) -> None:
    import asyncio

    begun, go_on = anyio.Event(), anyio.Event()

    @app.task
    async def wait() -> str:
        begun.set()
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
        await begun.wait()
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


async def test_a_runner_that_fails_keeps_nobody_waiting_for_its_jobs(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = anyio.Event()

    @app.task
    async def endless() -> None:
        begun.set()
        await anyio.sleep_forever()

    @app.task
    async def short() -> None:
        await begun.wait()

    def fail(*_: object) -> None:
        raise ZeroDivisionError("not counted")

    monkeypatch.setattr(Statistics, "add", fail)
    ids = [await endless.defer_async(), await short.defer_async()]
    with pytest.raises(ExceptionGroup) as caught, anyio.fail_after(DEADLINE_S):
        await Worker(app, install_signal_handlers=False, concurrency=2).run()
    assert caught.group_contains(ZeroDivisionError, match="not counted")
    assert [await app.job_manager.get_job_status_async(each) for each in ids] == ["todo", "succeeded"]
    assert await app.job_manager.list_workers_async() == []


@pytest.mark.parametrize("which", ["Shift._guarded", "Shift.work", "both"])
async def test_a_job_that_cancels_the_workers_tasks_ends_it_with_an_error(
    app: App, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("Shift._guarded", "Shift.work") if which == "both" else (which,)

    @app.task
    async def cancel() -> None:
        for each in asyncio.all_tasks():
            if each.get_name().endswith(names):
                each.cancel()
        await anyio.sleep_forever()

    await cancel.defer_async()
    with pytest.raises(RuntimeError, match=r"was cancelled by other code"), anyio.fail_after(DEADLINE_S):
        await Worker(app, install_signal_handlers=False).run()
    # Those that would record its end are cancelled, too. Without the worker others take the job back.
    assert await app.job_manager.list_workers_async() == []
    assert len([each for each in caplog.records if each.levelno == logging.CRITICAL]) <= 1


async def test_a_worker_refuses_a_database_without_the_schema(empty_dsn: str) -> None:
    app = make_app(empty_dsn)
    async with app.open_async():
        with pytest.raises(SchemaNotReady, match="migrate"):
            await Worker(app, install_signal_handlers=False).run()


@pytest.mark.parametrize("cancels", [1, 2])
async def test_a_second_cancellation_stops_at_once(app: App, cancels: int) -> None:
    import asyncio

    begun, go_on = anyio.Event(), anyio.Event()

    @app.task
    async def wait() -> None:
        begun.set()
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
        await begun.wait()
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


async def _break_fetching(app: App, dsn: str, job_id: int) -> None:
    await job_when(app, job_id, "doing")
    query(dsn, "ALTER FUNCTION procrastinate_deps.fetch_jobs(text[], bigint, integer, boolean) RENAME TO gone")
