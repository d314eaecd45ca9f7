"""Workflows that grow while they run: from their own jobs, with the join already in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from procrastinate_deps import JobContext, Status, WorkflowStatus
from procrastinate_deps.exceptions import (
    CircularDependency,
    DuplicateNode,
    JobAlreadyStarted,
    NodeNotFound,
    ProcrastinateException,
    WorkflowCancelled,
    WorkflowNotFound,
)
from tests.integration.worker_helpers import ended, query, working
from tests.integration.workflow_helpers import declare, names, worked

if TYPE_CHECKING:
    from procrastinate_deps import App


async def test_map_over_a_list_known_only_at_run_time(app: App, dsn: str) -> None:
    step = declare(app)["step"]
    summed: list[int] = []

    @app.task(name="split", pass_context=True)
    async def split(context: JobContext, count: int) -> None:
        async with context.workflow.grow() as wf:
            parts = [wf.add(step, n=n) for n in range(count)]
            parts >> wf.existing("report")

    @app.task(name="report", pass_context=True)
    async def report(context: JobContext) -> None:
        summed.append(sum(value or 0 for value in (await context.get_parent_results_async()).values()))

    async with app.workflow("mapped") as wf:
        wf.add(split, count=5) >> wf.add(report.configure(node="report"))
    info = await worked(app, wf)
    assert (info.status, info.total) == (WorkflowStatus.SUCCEEDED, 7)
    assert summed == [0 + 1 + 2 + 3 + 4]
    assert query(dsn, "SELECT * FROM procrastinate_deps.violations()") == []


async def test_recursion_with_the_join_in_place(app: App) -> None:
    """Each part splits itself further; the join waits for all of them, whichever ends first."""
    leaves: list[int] = []
    joined: list[int] = []

    @app.task(name="part", pass_context=True)
    async def part(context: JobContext, depth: int) -> None:
        if depth == 0:
            leaves.append(context.job.id)
            return
        async with context.workflow.grow() as wf:
            [wf.add(part, depth=depth - 1) for _ in range(2)] >> wf.existing("join")

    @app.task(name="join")
    async def join() -> None:
        joined.append(len(leaves))

    async with app.workflow("tree") as wf:
        wf.add(part, depth=4) >> wf.add(join.configure(node="join"))
    info = await worked(app, wf, concurrency=5)
    assert joined == [16]
    assert info.counts[Status.SUCCEEDED] == 2**5 - 1 + 1


async def test_one_job_at_once_from_a_running_one(app: App) -> None:
    step = declare(app)["step"]

    @app.task(name="adder", pass_context=True)
    async def adder(context: JobContext, end: int) -> None:
        added = await context.workflow.add_async(step.configure(node="added", depends_on=context.job), n=7)
        await context.add_dependencies_async(end, added)

    async with app.workflow("added") as wf:
        end = wf.add(step.configure(node="end", schedule_in={"hours": 1}))
    starter = await wf.add_async(adder, end=end.job_id)
    async with working(app):
        assert (await ended(app, starter.job_id)).status is Status.SUCCEEDED
        added = next(job for job in await wf.jobs_async() if job.node == "added")
        assert (await ended(app, added.id)).workflow_id == wf.id
    assert set(await app.job_manager.get_parents_async(added.id)) == {starter.job_id}
    assert set(await app.job_manager.get_parents_async(end.job_id)) == {added.id}


async def test_from_a_task_in_a_thread(app: App) -> None:
    step = declare(app)["step"]

    @app.task(name="split", pass_context=True)
    def split(context: JobContext) -> None:
        with context.workflow.grow() as wf:
            [wf.add(step, n=n) for n in range(3)] >> wf.existing("end")
        end = next(job for job in context.workflow.jobs() if job.node == "end")
        context.add_dependencies(end, context.workflow.add(step, n=9))

    async with app.workflow("threads") as wf:
        wf.add(split) >> wf.add(step.configure(node="end"))
    info = await worked(app, wf)
    assert (info.status, info.total) == (WorkflowStatus.SUCCEEDED, 6)
    assert len(await app.job_manager.get_parents_async(wf["end"].job_id)) == 1 + 3 + 1


async def test_a_job_without_a_workflow(app: App) -> None:
    said: list[str] = []

    @app.task(name="lonely", pass_context=True)
    async def lonely(context: JobContext) -> None:
        try:
            _ = context.workflow
        except ProcrastinateException as error:
            said.append(str(error))

    job_id = await lonely.defer_async()
    async with working(app):
        await ended(app, job_id)
    (message,) = said
    assert message.startswith(f"job {job_id} (lonely) belongs to no workflow: ")


async def test_what_can_not_be_added(app: App, dsn: str) -> None:
    step = declare(app)["step"]
    async with app.workflow("grown") as wf:
        first = wf.add(step.configure(node="first"))
        first >> wf.add(step.configure(node="second"))
        done = wf.add(step.configure(node="done"))
    query(dsn, "UPDATE procrastinate_deps.jobs SET status = 'succeeded' WHERE id = %s", done.job_id)

    async def grow(build: Any) -> None:
        async with wf.grow() as growing:
            growing.add(step)
            build(growing)

    wrong = [
        (lambda g: g.add(step) >> g.existing("done"), JobAlreadyStarted),
        (lambda g: g.existing("second") >> g.add(step) >> g.existing("first"), CircularDependency),
        (lambda g: g.add(step) >> g.existing("frist"), NodeNotFound),
        (lambda g: g.add(step.configure(node="first")), DuplicateNode),
        (lambda g: wf >> g.add(step), CircularDependency),
    ]
    for build, error in wrong:
        with pytest.raises(error):
            await grow(build)
        assert query(dsn, "SELECT count(*) FROM procrastinate_deps.jobs") == [(3,)], error
    await wf.cancel_async()
    with pytest.raises(WorkflowCancelled):
        await wf.add_async(step)
    await wf.delete_async()
    with pytest.raises(WorkflowNotFound):
        await wf.add_async(step)


async def test_growing_in_the_callers_transaction(app: App, dsn: str) -> None:
    step = declare(app)["step"]
    async with app.workflow("grown") as wf:
        end = wf.add(step.configure(node="end"))
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        async with wf.grow(connection=connection) as growing:
            new = growing.add(step.configure(node="new"))
            new >> growing.existing("end")
            growing.workflow("inner").add(step.configure(node="inner"))
        await wf.add_async(step.configure(connection=connection, node="one"))
        assert (await wf.refresh_async()).total == 1
        await connection.commit()
    assert (await wf.refresh_async()).total == 4
    assert await names(wf) == {"end": "blocked", "new": "todo", "inner": "todo", "one": "todo"}
    assert set(await app.job_manager.get_parents_async(end.job_id)) == {new.job_id}
