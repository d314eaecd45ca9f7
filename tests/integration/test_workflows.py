"""Workflows as users build, send, watch and fix them, by both drivers, with real workers."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from procrastinate_deps import Status, Workflow, WorkflowStatus, chain, group
from procrastinate_deps.exceptions import (
    AlreadyEnqueued,
    CircularDependency,
    DependencyNotFound,
    DuplicateNode,
    InvalidArguments,
    JobFailed,
    WorkflowAlreadyRunning,
    WorkflowNotFound,
)
from tests.integration.worker_helpers import query, working
from tests.integration.workflow_helpers import declare, names, worked

if TYPE_CHECKING:
    from procrastinate_deps import App


def counted(dsn: str) -> tuple[int, int]:
    """How many workflows and jobs there are."""
    sql = "SELECT (SELECT count(*) FROM procrastinate_deps.workflows), (SELECT count(*) FROM procrastinate_deps.jobs)"
    workflows, jobs = query(dsn, sql)[0]
    return workflows, jobs


async def test_a_workflow_from_its_block_to_its_end(app: App) -> None:
    step = declare(app)["step"]
    seen: list[int] = []

    @app.task(name="load", pass_context=True)
    async def load(context: Any) -> None:
        seen.extend((await context.get_parent_results_async()).values())

    async with app.workflow("etl", metadata={"day": 7}) as wf:
        parts = [wf.add(step, n=n) for n in range(3)]
        end = wf.add(load.configure(depends_on=parts, run_when="all_succeeded", node="load"))
    assert wf["load"].job_id == end.job_id == max(part.job_id for part in parts) + 1
    found = await app.get_workflow_async(wf.id)
    assert (found.name, found.metadata, found.status) == ("etl", {"day": 7}, WorkflowStatus.RUNNING)
    assert (found.counts[Status.BLOCKED], found.counts[Status.TODO], found.progress) == (1, 3, 0.0)
    assert found.started_at is None
    info = await worked(app, wf)
    assert seen == [0, 1, 2]
    assert (info.status, info.progress, info.counts[Status.SUCCEEDED]) == (WorkflowStatus.SUCCEEDED, 1.0, 4)
    assert wf.finished_at is not None
    assert wf.started_at is not None
    # what was read stays as it was until it is read again
    assert str(found.status) == "running"
    assert (await found.refresh_async()).status is WorkflowStatus.SUCCEEDED
    assert str(found.status) == "succeeded"


async def test_all_ways_to_join(app: App) -> None:
    step = declare(app)["step"]
    async with app.workflow("joined") as wf:
        a, b, c, d, e, f = (wf.add(step, n=n) for n in range(6))
        f >> e  # in any order
        a >> [b, c] >> d
        group(chain(b), c) >> e
    edges = {(edge.parent_id, edge.child_id) for edge in await wf.edges_async()}
    expected = [(a, b), (a, c), (b, d), (c, d), (f, e), (b, e), (c, e)]
    assert edges == {(parent.job_id, child.job_id) for parent, child in expected}
    info = await worked(app, wf)
    assert info.status is WorkflowStatus.SUCCEEDED
    jobs = {job.id: job for job in await wf.jobs_async()}
    for parent, child in edges:
        ended, started = jobs[parent].finished_at, jobs[child].started_at
        assert ended is not None
        assert started is not None
        assert ended <= started


async def test_a_workflow_without_jobs_has_succeeded(app: App) -> None:
    async with app.workflow("empty") as wf:
        pass
    assert await wf.wait_async(timeout=0) is WorkflowStatus.SUCCEEDED
    assert await wf.jobs_async() == []


async def test_nothing_is_sent_when_something_is_wrong(app: App, dsn: str) -> None:
    step = declare(app)["step"]
    taken = step.configure(queueing_lock="one")
    await taken.defer_async()

    async def send(build: Any) -> None:
        async with app.workflow("wrong") as wf:
            wf.add(step)
            build(wf)

    def cycle(wf: Any) -> None:
        a, b = wf.add(step), wf.add(step)
        a >> b >> a

    def stop(wf: Any) -> None:
        raise RuntimeError("changed my mind")

    wrong = [
        (cycle, CircularDependency),
        (stop, RuntimeError),
        (lambda wf: wf.add(taken), AlreadyEnqueued),
        (lambda wf: wf.add(step.configure(depends_on=123_456)), DependencyNotFound),
        (lambda wf: wf.add(step, n=object()), InvalidArguments),
        (lambda wf: [wf.add(step.configure(node="x")) for _ in range(2)], DuplicateNode),
    ]
    for build, error in wrong:
        with pytest.raises(error):
            await send(build)
        assert counted(dsn) == (0, 1), error


async def test_in_the_callers_transaction(app: App, dsn: str) -> None:
    step = declare(app)["step"]
    connection = await asyncpg.connect(dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        async with app.workflow("mine", connection=connection) as wf:
            wf.add(step) >> wf.add(step)
        assert (await wf.refresh_async(connection=connection)).total == 2
        assert counted(dsn) == (0, 0)
        await transaction.rollback()
    finally:
        await connection.close()
    with pytest.raises(WorkflowNotFound):
        await wf.refresh_async()
    async with await psycopg.AsyncConnection.connect(dsn) as mine:
        async with app.workflow("mine", connection=mine) as wf:
            wf.add(step) >> wf.add(step)
        await mine.commit()
    assert (await app.get_workflow_async(wf.id)).counts[Status.BLOCKED] == 1


async def test_one_live_unique_workflow_of_a_name(app: App) -> None:
    step = declare(app)["step"]
    async with app.workflow("nightly", unique=True) as wf:
        wf.add(step)
    with pytest.raises(WorkflowAlreadyRunning) as caught:
        async with app.workflow("nightly", unique=True) as second:
            second.add(step)
    assert caught.value.workflow_id == wf.id
    await worked(app, wf)
    async with app.workflow("nightly", unique=True) as third:
        third.add(step)
    assert third.id > wf.id


async def test_jobs_and_edges_by_pages(app: App) -> None:
    step = declare(app)["step"]
    async with app.workflow("paged") as wf:
        nodes = [wf.add(step, n=n) for n in range(5)]
        chain(*nodes)
        inner = wf.workflow("inner")
        last = inner.add(step.configure(depends_on=nodes[-1]))
    ids = [node.job_id for node in (*nodes, last)]
    first = await wf.jobs_async(limit=4)
    assert [job.id for job in first] == ids[:4]
    assert [job.id for job in await wf.jobs_async(after=first[-1].id)] == ids[4:]
    assert [job.id for job in await wf.jobs_async(status="todo")] == ids[:1]
    assert [(job.workflow_id, job.node) for job in await inner.jobs_async()] == [(inner.id, None)]
    edges = await wf.edges_async(limit=2)
    rest = await wf.edges_async(after=edges[-1])
    assert [(edge.parent_id, edge.child_id) for edge in edges + rest] == list(pairwise(ids))


async def test_the_task_that_failed_is_retried_with_what_it_stopped(app: App) -> None:
    step = declare(app)["step"]
    broken = [True]

    @app.task(name="flaky")
    async def flaky() -> None:
        if broken:
            raise ValueError("on purpose")

    async with app.workflow("flaky") as wf:
        first = wf.add(step.configure(node="first"))
        second = wf.add(flaky.configure(node="second"))
        first >> second >> wf.add(step.configure(node="third", run_when="all_succeeded"))
    async with working(app):
        with pytest.raises(JobFailed, match="on purpose") as caught:
            await wf.wait_async(timeout=30)
        assert caught.value.job_id == second.job_id
        await wf.refresh_async()
        assert wf.status is WorkflowStatus.FAILED
        assert await names(wf) == {"first": "succeeded", "second": "failed", "third": "cancelled"}
        broken.clear()
        assert await wf.retry_async() >= 1
        assert await wf.wait_async(timeout=30) is WorkflowStatus.SUCCEEDED
        assert await names(wf) == {"first": "succeeded", "second": "succeeded", "third": "succeeded"}
        assert await wf.retry_async("all") == 3
        assert await wf.wait_async(timeout=30) is WorkflowStatus.SUCCEEDED


async def test_cancel_and_delete(app: App, dsn: str) -> None:
    step = declare(app)["step"]
    async with app.workflow("cancelled") as wf:
        a, b = wf.add(step), wf.add(step)
        a >> b
        wf.workflow("inner").add(step)
    cancelled = await wf.cancel_async()
    assert (cancelled.cancelled, cancelled.abort_requested) == (3, 0)
    assert (await wf.refresh_async()).status is WorkflowStatus.CANCELLED
    assert await wf.delete_async() == 3
    assert counted(dsn) == (0, 0)
    with pytest.raises(WorkflowNotFound):
        await wf.refresh_async()


async def test_a_whole_workflow_as_a_parent(app: App) -> None:
    """A job of another workflow waits for every job of it, also for one that is added while it runs."""
    step = declare(app)["step"]
    async with app.workflow("first") as wf:
        wf.add(step)
        wf.workflow("inner").add(step)
    async with app.workflow("second") as after:
        alone = after.add(step.configure(depends_on=wf, node="after"))
    direct = await step.configure(depends_on=[wf], workflow=after, node="direct").defer_async()
    added = await wf.add_async(step)
    parents = await app.job_manager.get_parents_async(alone.job_id)
    assert set(parents) == {job.id for job in await wf.jobs_async()}
    assert added.job_id in parents
    assert set(await app.job_manager.get_parents_async(direct)) == set(parents)
    info = await worked(app, after)
    assert info.status is WorkflowStatus.SUCCEEDED
    ends = [job.finished_at for job in await wf.jobs_async()]
    started = (await app.job_manager.get_job_async(alone.job_id)).started_at
    assert started is not None
    assert all(end is not None and end <= started for end in ends)


async def test_nested_workflows(app: App) -> None:
    step = declare(app)["step"]
    async with app.workflow("outer") as wf:
        before = wf.add(step.configure(node="before"))
        inner = wf.workflow("inner", metadata={"part": 1})
        first, second = inner.add(step.configure(node="first")), inner.add(step.configure(node="second"))
        first >> second
        before >> inner >> wf.add(step.configure(node="after"))
    edges = {(edge.parent_id, edge.child_id) for edge in await wf.edges_async()}
    after = wf["after"]
    assert edges == {
        (before.job_id, first.job_id),
        (first.job_id, second.job_id),
        (first.job_id, after.job_id),
        (second.job_id, after.job_id),
    }
    found = await app.get_workflow_async(inner.id)
    assert (found.info.parent_id, found.info.path, found.info.total) == (wf.id, (wf.id, inner.id), 2)
    assert (await worked(app, wf)).total == 4
    assert (await inner.refresh_async()).status is WorkflowStatus.SUCCEEDED


async def test_the_graph_and_its_critical_path(app: App) -> None:
    tasks = declare(app)
    async with app.workflow("drawn") as wf:
        a = wf.add(tasks["fail"].configure(node='a "bad" <name>'))
        b = wf.add(tasks["step"].configure(node="b", run_when="all_succeeded"))
        c = wf.add(tasks["step"].configure(node="c"))
        a >> b >> c
    await worked(app, wf)
    mermaid = await wf.to_mermaid_async()
    assert f"j{a.job_id} ==> j{b.job_id}" in mermaid
    assert f"    class j{b.job_id} cancelled\n" in mermaid
    assert '"bad"' not in mermaid
    assert f"j{a.job_id} -> j{b.job_id} [penwidth" in await wf.to_dot_async()
    found = json.loads(await wf.to_json_async())
    assert found["layers"] == [[f"j{a.job_id}"], [f"j{b.job_id}"], [f"j{c.job_id}"]]
    path = await wf.critical_path_async()
    assert path.jobs[0].job.id == a.job_id
    assert path.run_s > 0
    assert min(path.slack_s.values()) == 0
    assert (await wf.to_mermaid_async(max_nodes=2)).count("more jobs") == 1


@pytest.mark.parametrize("what", ["refresh_async", "to_mermaid_async", "cancel_async", "retry_async", "delete_async"])
async def test_a_workflow_that_is_not_there(app: App, what: str) -> None:
    with pytest.raises(WorkflowNotFound):
        await getattr(Workflow(app, 123_456), what)()
    with pytest.raises(WorkflowNotFound):
        await app.get_workflow_async(123_456)


async def test_the_longest_chain_gets_the_first_slots(app: App, dsn: str) -> None:
    """Priorities by what the tasks took: one that is quick per job may have the longer chain, and isn't first."""
    tasks = declare(app)

    @app.task(name="long")
    async def long() -> None: ...

    query(
        dsn,
        "INSERT INTO procrastinate_deps.job_stats (minute, runs, run_sum, run_min, run_max, wait_sum, wait_min,"
        " wait_max, status, queue, task_name, run_histogram, wait_histogram)"
        " VALUES (now(), 10, 600, 60, 60, 0, 0, 0, 'succeeded', 'default', 'long', '{}', '{}'),"
        " (now(), 100, 1, 0, 0, 0, 0, 0, 'succeeded', 'default', 'step', '{}', '{}')",
    )
    async with app.workflow("ranked", priority="critical_path") as wf:
        chain(*(wf.add(tasks["step"]) for _ in range(5)))
        alone = wf.add(long.configure(priority=3))
    ranked = {job.id: job.priority for job in await wf.jobs_async()}
    assert ranked.pop(alone.job_id) == 3 + 5
    assert list(ranked.values()) == [4, 3, 2, 1, 0]


async def test_watching_from_elsewhere(app: App) -> None:
    step = declare(app)["step"]
    async with app.workflow("watched") as wf:
        chain(*(wf.add(step) for _ in range(3)))
    handle: Workflow = await app.get_workflow_async(wf.id)
    async with working(app):
        assert await handle.wait_async(timeout=30) is WorkflowStatus.SUCCEEDED
    assert handle.progress == 1.0


async def test_a_job_that_is_a_parent_itself_and_in_a_whole_workflow(app: App) -> None:
    step = declare(app)["step"]
    async with app.workflow("first") as first:
        inner = first.add(step)
    async with app.workflow("second") as second:
        child = second.add(step.configure(depends_on=[first, inner]))
    deferred = await step.configure(depends_on=[inner, first]).defer_async()
    for job_id in (child.job_id, deferred):
        assert await app.job_manager.get_parent_statuses_async(job_id) == {inner.job_id: "todo"}
