"""What tasks return, and how it comes to their children and to who reads the job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import App, JobContext, NotStored, statements
from procrastinate_deps.connectors import SyncPsycopgConnector
from procrastinate_deps.exceptions import InvalidArguments
from procrastinate_deps.jobs import JobSpec, WorkflowSpec
from tests.integration.worker_helpers import ended, make_app, one_shot, query

if TYPE_CHECKING:
    from pathlib import Path

UNSTORABLE = "a set"


def declare(app: App) -> None:
    @app.task(name="give")
    def give(value: Any = None, how: str = "returned") -> Any:
        if how == "failed":
            raise ValueError(value)
        return {1, 2} if value == UNSTORABLE else value

    @app.task(name="quiet", store_result=False)
    def quiet() -> str:
        return "nobody shall know"

    @app.task(name="take", pass_context=True)
    async def take(context: JobContext, by: Any = "id") -> list[list[Any]]:
        results = await context.get_parent_results_async(by)
        return [[key, "not stored" if isinstance(value, NotStored) else value] for key, value in results.items()]

    @app.task(name="take_sync", pass_context=True)
    def take_sync(context: JobContext, by: Any = "id") -> list[list[Any]]:
        results = context.get_parent_results(by)
        return [[key, "not stored" if isinstance(value, NotStored) else value] for key, value in results.items()]


def give(app: App, **arguments: Any) -> Any:
    return app.configure_task("give").defer_async(**arguments)


@pytest.mark.parametrize("task", ["take", "take_sync"])
async def test_of_all_parents_whatever_became_of_them(app: App, dsn: str, task: str) -> None:
    declare(app)
    deleted = await give(app, value="deleted")
    rows = await give(app, value={"rows": [1, 2.5, None]})
    nothing = await give(app)
    failed = await give(app, value="x", how="failed")
    unstored = await give(app, value=UNSTORABLE)
    quiet = await app.configure_task("quiet").defer_async()
    cancelled = await give(app, value="never")
    parents = [cancelled, quiet, unstored, failed, nothing, rows, deleted]
    # It waits for a time that doesn't come, until a parent is deleted that has ended.
    child = await app.configure_task(task, depends_on=parents, schedule_in={"hours": 1}).defer_async()
    assert await app.job_manager.cancel_job_by_id_async(cancelled)
    await one_shot(app)
    query(dsn, "DELETE FROM procrastinate_deps.jobs WHERE id = %s", deleted)
    query(dsn, "UPDATE procrastinate_deps.jobs SET scheduled_at = NULL WHERE id = %s", child)
    await one_shot(app)
    assert (await ended(app, child)).result == [
        [deleted, None],
        [rows, {"rows": [1, 2.5, None]}],
        [nothing, None],
        [failed, None],
        [unstored, "not stored"],
        [quiet, None],
        [cancelled, None],
    ]


async def test_without_parents(app: App) -> None:
    declare(app)
    job = await app.configure_task("take").defer_async()
    await one_shot(app)
    assert (await ended(app, job)).result == []


@pytest.mark.parametrize("task", ["take", "take_sync"])
async def test_by_node(app: App, task: str) -> None:
    """Only the parents that have a name; in the order of their ids, not of their names."""
    declare(app)
    jobs = [
        JobSpec(task_name="give", task_kwargs={"value": "b"}, workflow=0, node="second"),
        JobSpec(task_name="give", task_kwargs={"value": "a"}, workflow=0, node="first"),
        JobSpec(task_name="give", task_kwargs={"value": "unnamed"}, workflow=0),
        JobSpec(task_name="give", task_kwargs={"value": 1, "how": "failed"}, workflow=0, node="broken"),
        JobSpec(task_name=task, task_kwargs={"by": "node"}, workflow=0, node="child", after=[0, 1, 2, 3]),
    ]
    graph = await app.execute_async(statements.defer_graph([WorkflowSpec(name="etl")], jobs))
    await one_shot(app)
    child = await ended(app, graph.job_ids[-1])
    assert child.result == [["second", "b"], ["first", "a"], ["broken", None]]


async def test_a_name_that_two_parents_have_says_so(app: App) -> None:
    """Names are unique in their workflow only."""
    declare(app)
    jobs = [JobSpec(task_name="give", workflow=0, node="load"), JobSpec(task_name="give", workflow=1, node="load")]
    graph = await app.execute_async(statements.defer_graph([WorkflowSpec(name="a"), WorkflowSpec(name="b")], jobs))
    child = await app.configure_task("take", depends_on=graph.job_ids).defer_async(by="node")
    await one_shot(app)
    error = (await ended(app, child)).error or ""
    assert "two parents are named 'load'" in error
    assert "by id" in error
    assert await app.job_manager.get_parent_results_async(child) == dict.fromkeys(graph.job_ids)


async def test_by_something_else_is_refused(app: App) -> None:
    with pytest.raises(ValueError, match="by='name': pass 'id' or 'node'"):
        await app.job_manager.get_parent_results_async(1, by="name")  # type: ignore[arg-type]


async def test_one_query_sync_and_async(app: App, dsn: str) -> None:
    declare(app)
    parent = await give(app, value=[1])
    child = await app.configure_task("take", depends_on=parent).defer_async()
    await one_shot(app)
    assert await app.job_manager.get_parent_results_async(child) == {parent: [1]}
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as sync_app:
        assert sync_app.job_manager.get_parent_results(child) == {parent: [1]}
    assert await app.job_manager.get_parent_results_async(10**12) == {}


async def test_a_retried_parent_has_no_result_any_more(app: App) -> None:
    declare(app)
    parent = await give(app, value=1)
    child = await app.configure_task("take", depends_on=parent).defer_async()
    await one_shot(app)
    await app.job_manager.retry_job_by_id_async(parent)
    assert await app.job_manager.get_parent_results_async(child) == {parent: None}


# What could not be stored


async def test_nobody_takes_the_mark_for_data(dsn: str) -> None:
    """Whoever reads a job finds a NotStored, by any way; the user's json_loads doesn't see the mark."""
    seen: list[str] = []

    def loads(text: str) -> Any:
        seen.append(text)
        return json.loads(text)

    app = make_app(dsn, "psycopg", json_loads=loads)
    declare(app)
    async with app.open_async():
        job_id = await give(app, value=UNSTORABLE)
        child = await app.configure_task("take", depends_on=job_id).defer_async()
        await one_shot(app)
        job = await app.job_manager.get_job_async(job_id)
        assert isinstance(job.result, NotStored)
        assert "set" in job.result.reason
        assert (await app.job_manager.list_jobs_async(id=job_id))[0].result == job.result
        assert await app.job_manager.get_parent_results_async(child) == {job_id: job.result}
        assert await app.wait_for_job_async(job_id) == job.result
        assert not any(statements.NOT_STORED in text for text in seen)
        assert json.dumps(job.log_context())
        with pytest.raises(InvalidArguments):
            await give(app, value=job.result)


async def test_a_result_that_only_has_the_marks_key_is_data(app: App) -> None:
    declare(app)
    value = {statements.NOT_STORED: "why", "rows": 3}
    job_id = await give(app, value=value)
    await one_shot(app)
    assert (await app.job_manager.get_job_async(job_id)).result == value


async def test_the_command_line_says_that_it_is_not_stored(
    app: App, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from procrastinate_deps.cli.program import program

    declare(app)
    job_id = await give(app, value=UNSTORABLE)
    await one_shot(app)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCRASTINATE_DEPS_DSN", dsn)
    shown = CliRunner().invoke(program, ["job-status", str(job_id)], catch_exceptions=False).output
    assert "result         not stored: TypeError" in shown
    as_json = CliRunner().invoke(program, ["job-status", str(job_id), "--format", "json"], catch_exceptions=False)
    assert list(json.loads(as_json.output)["result"]) == [statements.NOT_STORED]
