"""Waiting for workflows."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import pytest

from procrastinate_deps import App, JobFailed, statements
from procrastinate_deps.exceptions import WorkflowNotFound
from procrastinate_deps.jobs import JobSpec, WorkflowSpec
from procrastinate_deps.workflow_info import WorkflowInfo
from tests.integration.waiting_helpers import listening, until_no_trace
from tests.integration.worker_helpers import DEADLINE_S, one_shot, query, until, working


@pytest.fixture(params=["async", "sync"])
def wait(app: App, request: pytest.FixtureRequest) -> Any:
    """Both ways, the sync one in a thread."""

    async def wait(workflow_id: int, timeout: float | None = DEADLINE_S, **options: Any) -> WorkflowInfo:  # noqa: ASYNC109
        if request.param == "async":
            return await app.wait_for_workflow_async(workflow_id, timeout, **options)
        return await anyio.to_thread.run_sync(lambda: app.wait_for_workflow(workflow_id, timeout, **options))

    return wait


async def defer(app: App, *jobs: JobSpec, nested: bool = False) -> tuple[int, list[int]]:
    """A workflow `etl` with these jobs, or with one nested in it that has them."""

    @app.task(name="give")
    async def give(error: str | None = None) -> None:
        if error:
            raise ValueError(error)

    workflows = [WorkflowSpec(name="etl")]
    if nested:
        workflows.append(WorkflowSpec(name="part", parent=0))
    graph = await app.execute_async(statements.defer_graph(workflows, jobs))
    return graph.workflow_ids[0], graph.job_ids


def job(error: str | None = None, **options: Any) -> JobSpec:
    return JobSpec(task_name="give", task_kwargs={"error": error}, **{"workflow": 0, **options})


async def test_until_all_its_jobs_have_ended(app: App, wait: Any) -> None:
    id_, job_ids = await defer(app, job(), job(after=[0]), job(workflow=1, after=[1]), nested=True)
    async with working(app):
        info = await wait(id_)
    assert (info.id, info.status, info.total, info.live) == (id_, "succeeded", len(job_ids), 0)
    assert (await wait(id_, timeout=0)).status == "succeeded"


async def test_a_failed_one_raises_the_first_error(app: App, wait: Any) -> None:
    id_, job_ids = await defer(
        app,
        job(),
        job("first", workflow=1),
        job("second", after=[1]),
        job(after=[1], run_when="all_succeeded"),
        nested=True,
    )
    async with working(app):
        with pytest.raises(JobFailed) as raised:
            await wait(id_)
    error = raised.value
    assert str(error) == f"workflow {id_} (etl) has failed: job {job_ids[1]} (give) failed: ValueError: first"
    assert (error.workflow_id, error.job_id, error.status) == (id_, job_ids[1], "failed")
    assert "Traceback" in (error.error or "")
    info = await wait(id_, raise_on_failure=False)
    assert (info.status, info.counts["failed"], info.counts["cancelled"]) == ("failed", 2, 1)


async def test_a_cancelled_one_raises_too(app: App, wait: Any) -> None:
    id_, (first, _) = await defer(app, job(), job(after=[0]))
    await app.execute_async(statements.cancel_workflow(id_))
    with pytest.raises(
        JobFailed, match=f"workflow {id_} .etl. has been cancelled: job {first} .give. was cancelled"
    ) as raised:
        await wait(id_)
    assert (raised.value.status, raised.value.cancel_kind) == ("cancelled", "manual")
    assert (await wait(id_, raise_on_failure=False)).status == "cancelled"


async def test_a_cancelled_one_whose_jobs_are_gone(app: App, wait: Any, dsn: str) -> None:
    """No job is left that would say why."""
    id_, job_ids = await defer(app, job())
    await app.execute_async(statements.cancel_workflow(id_))
    query(dsn, "DELETE FROM procrastinate_deps.jobs WHERE id = ANY (%s)", job_ids)
    with pytest.raises(JobFailed, match=f"^workflow {id_} .etl. has been cancelled$") as raised:
        await wait(id_)
    assert (raised.value.job_id, raised.value.workflow_id, raised.value.status) == (None, id_, "cancelled")


async def test_one_that_is_retried_when_its_end_was_seen(
    app: App, wait: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_, _ = await defer(app, job("on purpose"))
    await one_shot(app)
    read = statements.get_workflow
    retries: list[Any] = []

    def retry_first(workflow_id: int) -> Any:
        if not retries:
            retries.append(query(dsn, "SELECT procrastinate_deps.retry_workflow(%s, 'failed')", workflow_id))
        return read(workflow_id)

    monkeypatch.setattr(statements, "get_workflow", retry_first)
    with pytest.raises(TimeoutError, match="it is running"):
        await wait(id_, timeout=0.2)
    assert len(retries) == 1


async def test_an_empty_one_has_succeeded(app: App, wait: Any) -> None:
    id_, _ = await defer(app)
    assert (await wait(id_)).status == "succeeded"


async def test_the_time_is_over(app: App, wait: Any, dsn: str) -> None:
    id_, _ = await defer(app, job())
    with pytest.raises(TimeoutError, match=f"workflow {id_} has not ended within 0.05 s: it is running"):
        await wait(id_, 0.05)
    until_no_trace(dsn)


async def test_what_no_workflow_can_have_as_its_id_ends_nobody_elses_wait(app: App, wait: Any, dsn: str) -> None:
    id_, _ = await defer(app, job())
    ended: list[str] = []

    async def other() -> None:
        ended.append((await wait(id_)).status)

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await until(lambda: listening(dsn), "a wait")
        for nonsense in ("7", None, 1.5, True):
            with pytest.raises(TypeError, match="pass the workflow's id"):
                await wait(nonsense)
        for impossible in (0, -1, 2**70):
            with pytest.raises(WorkflowNotFound, match=f"workflow {impossible} can't exist"):
                await wait(impossible)
        await one_shot(app)
    assert ended == ["succeeded"]


async def test_one_that_never_was_or_is_deleted(app: App, wait: Any, dsn: str) -> None:
    with pytest.raises(WorkflowNotFound, match="12345"):
        await wait(12345)
    id_, _ = await defer(app, job())
    errors: list[WorkflowNotFound] = []

    async def deleted() -> None:
        try:
            await wait(id_)
        except WorkflowNotFound as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(deleted)
        await until(lambda: listening(dsn), "a wait")
        query(dsn, "DELETE FROM procrastinate_deps.workflows WHERE id = %s", id_)
    assert errors[0].workflow_id == id_


@pytest.mark.usefixtures("no_polling")
async def test_told_by_a_notification(app: App, wait: Any, dsn: str) -> None:
    """It comes when a worker has folded the counts."""
    id_, _ = await defer(app, job(), job(after=[0]))
    infos: list[WorkflowInfo] = []

    async def waiting() -> None:
        infos.append(await wait(id_))

    async with anyio.create_task_group() as group:
        group.start_soon(waiting)
        await until(lambda: listening(dsn), "a wait")
        await one_shot(app)
        await app.execute_async(statements.fold_workflows())
    assert infos[0].status == "succeeded"
