"""Workflows by code that is not async: whatever the app's own driver is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from procrastinate_deps import App, Status, SyncPsycopgConnector, WorkflowStatus
from procrastinate_deps.exceptions import WorkflowAlreadyRunning, WorkflowNotFound
from tests.integration.worker_helpers import make_app
from tests.integration.workflow_helpers import declare

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["psycopg", "asyncpg", "sync"])
def sync_app(dsn: str, request: pytest.FixtureRequest) -> Iterator[App]:
    app = App(SyncPsycopgConnector(conninfo=dsn)) if request.param == "sync" else make_app(dsn, request.param)
    with app.open():
        yield app


def test_a_workflow(sync_app: App) -> None:
    step = declare(sync_app)["step"]
    with sync_app.workflow("etl", metadata={"x": 1}, unique=True, priority="critical_path") as wf:
        a, b = wf.add(step.configure(node="a")), wf.add(step.configure(node="b"))
        a >> b
        inner = wf.workflow("inner")
        with inner:
            inner.add(step)
    found = sync_app.get_workflow(wf.id)
    assert (found.name, found.metadata, found.status, found.info.total) == (
        "etl",
        {"x": 1},
        WorkflowStatus.RUNNING,
        3,
    )
    assert [(job.node, job.status, job.priority) for job in wf.jobs()] == [
        ("a", Status.TODO, 1),
        ("b", Status.BLOCKED, 0),
        (None, Status.TODO, 0),
    ]
    assert [(edge.parent_id, edge.child_id) for edge in wf.edges()] == [(a.job_id, b.job_id)]
    with pytest.raises(WorkflowAlreadyRunning), sync_app.workflow("etl", unique=True):
        pass
    with found.grow() as more:
        more.add(step) >> more.existing("b")
    assert found.add(step).job_id > b.job_id
    assert found.refresh().total == 5
    assert "-->" in found.to_mermaid()
    assert "->" in found.to_dot()
    assert '"edges"' in found.to_json()
    assert found.critical_path().jobs == []
    with pytest.raises(TimeoutError):
        found.wait(timeout=0)
    assert found.cancel().cancelled == 5
    assert found.wait(timeout=0, raise_on_failure=False) is WorkflowStatus.CANCELLED
    assert found.retry() == 5
    assert found.refresh().counts[Status.TODO] == 4
    assert found.delete() == 5
    with pytest.raises(WorkflowNotFound):
        sync_app.get_workflow(wf.id)


def test_in_the_callers_transaction(sync_app: App, dsn: str) -> None:
    step = declare(sync_app)["step"]
    with psycopg.connect(dsn) as connection:
        with sync_app.workflow("mine", connection=connection) as wf:
            wf.add(step)
        with wf.grow(connection) as more:
            more.add(step)
        assert wf.refresh(connection=connection).total == 2
        connection.rollback()
    with pytest.raises(WorkflowNotFound):
        wf.refresh()


def test_leaving_by_an_error(sync_app: App) -> None:
    step = declare(sync_app)["step"]

    def build() -> None:
        with sync_app.workflow("wrong") as wf:
            wf.add(step)
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        build()
    assert sync_app.job_manager.list_jobs() == []
