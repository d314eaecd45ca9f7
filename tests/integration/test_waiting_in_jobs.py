"""A running job that waits: what would never end raises at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import JobContext, JobFailed, statements
from procrastinate_deps.jobs import JobSpec, WorkflowSpec
from tests.integration.worker_helpers import DEADLINE_S, ended, working

if TYPE_CHECKING:
    from procrastinate_deps import App
    from procrastinate_deps.jobs import Job


def declare(app: App) -> None:
    @app.task(name="wait", pass_context=True)
    async def wait(context: JobContext, job: int | None = None, workflow: int | None = None) -> Any:
        if workflow is not None:
            return (await app.wait_for_workflow_async(workflow, DEADLINE_S)).status
        return await app.wait_for_job_async(job or context.job, DEADLINE_S)

    @app.task(name="wait_sync", pass_context=True)
    def wait_sync(context: JobContext, job: int | None = None, workflow: int | None = None) -> Any:
        if workflow is not None:
            return app.wait_for_workflow(workflow, DEADLINE_S).status
        return app.wait_for_job(job or context.job, DEADLINE_S)

    @app.task(name="child_of_waiter", pass_context=True)
    async def child_of_waiter(context: JobContext, between: int) -> Any:
        """Defers jobs that depend on this one, and waits for the last of them."""
        last = context.job.id
        for _ in range(between + 1):
            last = await app.configure_task("give", depends_on=last).defer_async()
        return await app.wait_for_job_async(last, DEADLINE_S)

    @app.task(name="give")
    async def give(value: Any = 1) -> Any:
        return value


def assert_endless(job: Job, *words: str) -> None:
    assert job.status == "failed"
    assert "EndlessWait" in (job.error or "")
    for word in words:
        assert word in (job.error or "")


@pytest.mark.parametrize("task", ["wait", "wait_sync"])
async def test_for_itself(app: App, task: str) -> None:
    declare(app)
    async with working(app):
        job_id = await app.configure_task(task).defer_async()
        assert_endless(await ended(app, job_id), f"it is job {job_id} itself")


@pytest.mark.parametrize("between", [0, 1, 20])
async def test_for_a_dependent(app: App, between: int) -> None:
    declare(app)
    async with working(app):
        job_id = await app.configure_task("child_of_waiter").defer_async(between=between)
        assert_endless(await ended(app, job_id), f"that waits for job {job_id}")


async def test_for_a_job_that_needs_its_lock(app: App) -> None:
    """Or for one behind it."""
    declare(app)
    locked = await app.configure_task("give", lock="l", schedule_in={"hours": 1}).defer_async()
    behind = await app.configure_task("give", depends_on=locked).defer_async()
    async with working(app):
        for target, words in ((locked, "that needs the lock 'l'"), (behind, f"that waits for job {locked}")):
            job_id = await app.configure_task("wait", lock="l").defer_async(job=target)
            assert_endless(await ended(app, job_id), words, f"which job {job_id} has")


@pytest.mark.parametrize("task", ["wait", "wait_sync"])
async def test_for_another_job(app: App, task: str) -> None:
    """An ancestor, a sibling, one that was a dependent and doesn't wait any more: these end."""
    declare(app)
    async with working(app, concurrency=4):
        ancestor = await app.configure_task("give").defer_async(value="a")
        other = await app.configure_task("give", depends_on=ancestor).defer_async(value="b")
        for target, result in ((ancestor, "a"), (other, "b")):
            job_id = await app.configure_task(task, depends_on=ancestor).defer_async(job=target)
            assert (await ended(app, job_id)).result == result


async def test_for_a_dependent_that_was_let_go(app: App) -> None:
    """It runs whatever its parents do, or was cancelled: it ends before them."""

    @app.task(name="let_go", pass_context=True)
    async def let_go(context: JobContext) -> Any:
        child = await app.configure_task("give", depends_on=context.job).defer_async(value=5)
        await app.job_manager.retry_job_by_id_async(child, ignore_dependencies=True)
        cancelled = await app.configure_task("give", depends_on=context.job).defer_async()
        await app.job_manager.cancel_job_by_id_async(cancelled)
        with pytest.raises(JobFailed):
            await app.wait_for_job_async(cancelled, DEADLINE_S)
        return await app.wait_for_job_async(child, DEADLINE_S)

    declare(app)
    async with working(app, concurrency=2):
        job_id = await let_go.defer_async()
        assert (await ended(app, job_id)).result == 5


@pytest.mark.parametrize("task", ["wait", "wait_sync"])
async def test_for_its_workflow_or_one_around_it_or_one_after_it(app: App, task: str) -> None:
    declare(app)
    workflows = [WorkflowSpec(name="outer"), WorkflowSpec(name="inner", parent=0), WorkflowSpec(name="after")]
    jobs = [
        JobSpec(task_name="give", workflow=1, schedule_in=timedelta(hours=1)),
        JobSpec(task_name="give", workflow=2, after=[0]),
    ]
    graph = await app.execute_async(statements.defer_graph(workflows, jobs))
    outer, inner, after = graph.workflow_ids
    # The job is to run as part of the inner workflow, which the one after waits for.
    for target, words in (
        (outer, "is one of its jobs"),
        (inner, "is one of its jobs"),
        (after, "that waits for job"),
    ):
        waiter = JobSpec(task_name=task, task_kwargs={"workflow": target}, workflow_id=inner)
        (job_id,) = await app.job_manager.defer_jobs_async([waiter])
        if target == after:
            await app.job_manager.add_dependencies_async(graph.job_ids[1], job_id)
        async with working(app):
            assert_endless(await ended(app, job_id), words)


async def test_for_another_workflow(app: App) -> None:
    declare(app)
    graph = await app.execute_async(
        statements.defer_graph([WorkflowSpec(name="w")], [JobSpec(task_name="give", workflow=0)])
    )
    async with working(app, concurrency=2):
        job_id = await app.configure_task("wait").defer_async(workflow=graph.workflow_ids[0])
        assert (await ended(app, job_id)).result == "succeeded"


async def test_a_job_of_another_database_is_not_meant(app: App) -> None:
    """Its id is the same, and it was deferred at another time."""
    job_id = await app.configure_task("give").defer_async()
    worker_id = await app.execute_async(statements.register_worker("w", "h", 1, None, 1, "0"))
    (job,) = await app.execute_async(statements.fetch_jobs(None, worker_id, 1))

    async def reason(created_at: Any) -> str | None:
        return await app.execute_async(statements.waits_for_ever(job_id, created_at, job_id, None))

    assert await reason(job.created_at) == f"it is job {job_id} itself"
    assert await reason(job.created_at.replace(year=2020)) is None
