"""Workers keep the counts of workflows short and tell when one has ended."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps.jobs import JobSpec, WorkflowSpec
from procrastinate_deps.worker import folder
from tests.integration.worker_helpers import DEADLINE_S, NO_POLLING_S, ended, one_shot, query, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import App

CHANNEL = "procrastinate_deps"
FLOW = [WorkflowSpec(name="flow", unique=True)]


def register(app: App) -> None:
    @app.task(name="works")
    async def works() -> None:
        pass

    @app.task(name="fails")
    async def fails() -> None:
        raise ValueError("as it shall")


@contextlib.asynccontextmanager
async def listening(dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        yield connection


async def end_of_a_workflow(connection: psycopg.AsyncConnection[Any]) -> tuple[int, str]:
    with anyio.fail_after(DEADLINE_S):
        async for heard in connection.notifies():
            news = json.loads(heard.payload)
            if news["type"] == "workflow_ended":
                return news["workflow_id"], news["status"]
    raise AssertionError("the connection ended")


async def test_the_end_of_a_workflow_is_announced_soon(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "SWEEP_INTERVAL_S", NO_POLLING_S)
    register(app)
    jobs = [JobSpec(task_name="works", workflow=0), JobSpec(task_name="fails", workflow=0, after=[0])]
    async with working(app, concurrency=3), listening(dsn) as connection:
        for _ in range(2):
            sent = await app.job_manager.defer_graph_async(FLOW, jobs)
            assert await end_of_a_workflow(connection) == (sent.workflow_ids[0], "failed")
    assert query(dsn, "SELECT count(*) FROM procrastinate_deps.workflow_deltas") == [(0,)]


async def test_a_worker_that_stops_tells_of_its_last_jobs(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "SWEEP_INTERVAL_S", NO_POLLING_S)
    register(app)
    async with listening(dsn) as connection:
        sent = await app.job_manager.defer_graph_async(FLOW, [JobSpec(task_name="works", workflow=0)])
        await one_shot(app)
        assert await end_of_a_workflow(connection) == (sent.workflow_ids[0], "succeeded")
    assert query(dsn, "SELECT count(*) FROM procrastinate_deps.workflow_deltas") == [(0,)]


async def test_what_was_ended_by_hand_is_found_by_a_sweep(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "SWEEP_INTERVAL_S", 0.05)
    async with listening(dsn) as connection, working(app, queues=["another"]):
        sent = await app.job_manager.defer_graph_async(FLOW, [JobSpec(task_name="works", workflow=0)])
        query(dsn, "UPDATE procrastinate_deps.jobs SET status = 'succeeded'")
        assert await end_of_a_workflow(connection) == (sent.workflow_ids[0], "succeeded")


async def test_what_another_session_is_folding_is_asked_for_again(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SWEEP_INTERVAL_S", NO_POLLING_S)
    register(app)
    async with listening(dsn) as connection, working(app):
        sent = await app.job_manager.defer_graph_async(FLOW, [JobSpec(task_name="works", workflow=0)])
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute("SELECT FROM procrastinate_deps.workflows FOR NO KEY UPDATE")
            # the fold passes by, leaving its changes
            await ended(app, sent.job_ids[0])
        assert await end_of_a_workflow(connection) == (sent.workflow_ids[0], "succeeded")
