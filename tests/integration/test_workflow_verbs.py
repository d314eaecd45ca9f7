"""Workflows by id: the verbs of the job manager, and what they raise, by every way to the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import App, SyncPsycopgConnector, exceptions, statements
from procrastinate_deps.jobs import CancelKind, JobSpec, Status, WorkflowSpec
from procrastinate_deps.workflow_info import Edge, WorkflowStatus
from tests.integration.ways import WAYS

if TYPE_CHECKING:
    from tests.integration.ways import Way

TWO = [WorkflowSpec(name="outer", metadata={"a": [1]}), WorkflowSpec(name="inner", parent=0)]
JOBS = [
    JobSpec(task_name="t", workflow=0, node="first"),
    JobSpec(task_name="t", workflow=1, after=[0]),
    JobSpec(task_name="t", workflow=0, after_workflows=[1], run_when="all_succeeded"),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
async def way(dsn: str, request: pytest.FixtureRequest) -> Any:
    async with request.param(dsn) as way:
        yield way


async def test_a_graph_is_sent_read_cancelled_retried_and_deleted(way: Way) -> None:
    sent = await way.run(statements.defer_graph(TWO, JOBS))
    outer, inner = sent.workflow_ids
    first, second, third = sent.job_ids
    info = await way.run(statements.get_workflow(outer))
    assert (info.name, info.metadata, info.path, info.parent_id) == ("outer", {"a": [1]}, (outer,), None)
    assert (info.total, info.live, info.progress, info.status) == (3, 3, 0.0, WorkflowStatus.RUNNING)
    assert {status: count for status, count in info.counts.items() if count} == {Status.TODO: 1, Status.BLOCKED: 2}
    nested = await way.run(statements.get_workflow(inner))
    assert (nested.parent_id, nested.path, nested.total) == (outer, (outer, inner), 1)
    jobs = await way.run(statements.list_jobs(workflow_id=outer))
    assert [(job.id, job.workflow_id, job.node) for job in jobs] == [
        (first, outer, "first"), (second, inner, None), (third, outer, None),
    ]  # fmt: skip
    assert [job.id for job in await way.run(statements.list_workflow_jobs(outer, Status.BLOCKED, 1, second))] == [third]
    edges = await way.run(statements.list_workflow_edges(outer))
    assert edges == [Edge(parent_id=first, child_id=second), Edge(parent_id=second, child_id=third)]
    assert await way.run(statements.list_workflow_edges(outer, 1, (second, first))) == edges[1:]

    done = await way.run(statements.cancel_workflow(outer))
    assert (done.cancelled, done.abort_requested) == (3, 0)
    info = await way.run(statements.get_workflow(outer))
    assert (info.status, info.cancel_requested, info.progress) == (WorkflowStatus.CANCELLED, True, 1.0)
    assert (info.counts[Status.CANCELLED], info.cancel_kinds[CancelKind.MANUAL]) == (3, 3)
    assert info.finished_at is not None
    assert await way.run(statements.retry_workflow(outer)) == 3
    assert (await way.run(statements.get_workflow(outer))).finished_at is None
    assert await way.run(statements.fold_workflows()) is False
    assert await way.run(statements.delete_workflow(outer)) == 3
    with pytest.raises(exceptions.WorkflowNotFound) as missing:
        await way.run(statements.get_workflow(inner))
    assert missing.value.workflow_id == inner


async def test_what_is_refused_leaves_the_callers_transaction_usable(way: Way) -> None:
    unique = [WorkflowSpec(name="one", unique=True)]
    sent = await way.run(statements.defer_graph(unique, [JobSpec(task_name="t", workflow=0, node="a")]))
    [workflow] = sent.workflow_ids
    with pytest.raises(exceptions.WorkflowAlreadyRunning, match="one") as taken:
        await way.run(statements.defer_graph(unique, []))
    assert (taken.value.workflow_id, taken.value.workflow_name) == (workflow, "one")
    assert isinstance(taken.value, exceptions.AlreadyEnqueued)
    again = [JobSpec(task_name="t", workflow_id=workflow, node="a")]
    with pytest.raises(exceptions.DuplicateNode, match="'a'") as duplicate:
        await way.run(statements.defer_jobs(again))
    assert duplicate.value.node == "a"
    with pytest.raises(exceptions.WorkflowNotFound) as missing:
        await way.run(statements.defer_jobs([JobSpec(task_name="t", workflow_id=99)]))
    assert missing.value.workflow_id == 99
    with pytest.raises(exceptions.WorkflowNotFound):
        await way.run(statements.cancel_workflow(99))
    with pytest.raises(exceptions.WorkflowNotFound):
        await way.run(statements.retry_workflow(99, "all"))
    with pytest.raises(exceptions.WorkflowNotFound):
        await way.run(statements.delete_workflow(99))
    await way.run(statements.cancel_workflow(workflow))
    with pytest.raises(exceptions.WorkflowCancelled) as cancelled:
        await way.run(statements.defer_jobs([JobSpec(task_name="t", workflow_id=workflow)]))
    assert cancelled.value.workflow_id == workflow
    with pytest.raises(exceptions.JobAlreadyStarted):
        await way.run(statements.defer_jobs([JobSpec(task_name="t", before=sent.job_ids)]))
    assert (await way.run(statements.get_workflow(workflow))).total == 1


async def test_the_managers_verbs(app: App) -> None:
    manager = app.job_manager
    sent = await manager.defer_graph_async(TWO, JOBS)
    outer, inner = sent.workflow_ids
    other = (await manager.defer_graph_async([WorkflowSpec(name="other")], [])).workflow_ids[0]
    assert [each.id for each in await manager.list_workflows_async()] == [other, inner, outer]
    assert [each.id for each in await manager.list_workflows_async(limit=1, after=other)] == [inner]
    assert [each.id for each in await manager.list_workflows_async(roots=True)] == [other, outer]
    assert [each.id for each in await manager.list_workflows_async(parent_id=outer)] == [inner]
    assert [each.id for each in await manager.list_workflows_async(name="inner")] == [inner]
    assert [each.id for each in await manager.list_workflows_async(status="succeeded")] == [other]
    assert [each.id for each in await manager.list_workflows_async(status=WorkflowStatus.RUNNING)] == [inner, outer]
    edges = await manager.list_workflow_edges_async(outer)
    assert await manager.list_workflow_edges_async(outer, after=edges[0]) == edges[1:]
    assert (await manager.get_workflow_async(other)).progress == 1.0
    assert (await manager.cancel_workflow_async(inner, abort=False)).cancelled == 1
    assert await manager.retry_workflow_async(inner, "all") == 1
    assert await manager.delete_workflow_async(outer) == 3
    with pytest.raises(ValueError, match="some"):
        await manager.retry_workflow_async(other, "some")
    with pytest.raises(ValueError, match="doing"):
        await manager.list_workflows_async(status="doing")


def test_the_managers_verbs_without_async(dsn: str) -> None:
    app = App(SyncPsycopgConnector(conninfo=dsn))
    with app.open():
        manager = app.job_manager
        [workflow] = manager.defer_graph([WorkflowSpec(name="flow")], [JobSpec(task_name="t", workflow=0)]).workflow_ids
        assert [job.workflow_id for job in manager.list_jobs(workflow_id=workflow)] == [workflow]
        assert manager.get_workflow(workflow) == manager.list_workflows()[0]
        assert manager.list_workflow_edges(workflow) == []
        assert manager.cancel_workflow(workflow).cancelled == 1
        assert manager.retry_workflow(workflow) == 1
        assert manager.delete_workflow(workflow) == 1
