"""One worker, in this process, on a real database: what runs, where, and how it ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import JobContext, NotStored, RetryStrategy
from tests.integration.worker_helpers import (
    DEADLINE_S,
    Overlap,
    ended,
    one_shot,
    until,
)

if TYPE_CHECKING:
    from procrastinate_deps import App


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
