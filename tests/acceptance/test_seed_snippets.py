"""The first users' way to write workflows: tasks made to wait for the jobs that `depends_on` names.

Each test has the shape of what such a user types, and is run by real workers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import psycopg
import pytest

from procrastinate_deps import App, AsyncpgConnector, PsycopgConnector, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import Job, JobContext

logger = logging.getLogger(__name__)

DEADLINE_S = 60
CONNECTORS: dict[str, Any] = {
    "psycopg": lambda dsn: PsycopgConnector(conninfo=dsn),
    "asyncpg": lambda dsn: AsyncpgConnector(dsn=dsn),
}


@pytest.fixture(params=CONNECTORS)
async def app(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[App]:
    app = App(CONNECTORS[request.param](dsn))
    async with app.open_async():
        yield app


async def run_workers(app: App, count: int = 1, concurrency: int = 10) -> None:
    """Workers that stop when there is nothing left to run."""
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(run_worker, app, f"worker-{number}", concurrency)


async def run_worker(app: App, name: str, concurrency: int) -> None:
    await app.run_worker_async(name=name, concurrency=concurrency, wait=False, install_signal_handlers=False)


async def job(app: App, job_id: int) -> Job:
    return await app.job_manager.get_job_async(job_id)


async def test_a_child_runs_after_its_parent(app: App) -> None:
    order: list[str] = []

    @app.task
    async def parent_task() -> None:
        order.append("parent starts")
        await anyio.lowlevel.checkpoint()
        order.append("parent ends")

    @app.task
    async def child_task() -> None:
        order.append("child")

    parent_job_id = await parent_task.defer_async()
    child_job_id = await child_task.configure(depends_on=[parent_job_id]).defer_async()

    assert await app.job_manager.get_job_status_async(child_job_id) == "blocked"
    await run_workers(app)
    assert order == ["parent starts", "parent ends", "child"]
    parent, child = await job(app, parent_job_id), await job(app, child_job_id)
    assert parent.status == child.status == Status.SUCCEEDED
    assert parent.finished_at is not None
    assert child.started_at is not None
    assert parent.finished_at <= child.started_at


async def test_a_child_waits_for_all_of_its_parents(app: App) -> None:
    order: list[str] = []

    @app.task
    def task_a() -> None:
        order.append("a")

    @app.task
    async def task_b() -> None:
        order.append("b")

    @app.task
    async def task_c() -> None:
        order.append("c")

    job_a_id = await task_a.defer_async()
    job_b_id = await task_b.configure(queue="another").defer_async()
    job_c_id = await task_c.configure(depends_on=[job_a_id, job_b_id]).defer_async()

    # Without a worker for the second parent's queue the child is not picked up, however often it is asked for.
    with anyio.fail_after(DEADLINE_S):
        await app.run_worker_async(queues=["default"], wait=False, install_signal_handlers=False)
    assert order == ["a"]
    assert await app.job_manager.get_job_status_async(job_c_id) == "blocked"
    await run_workers(app)
    assert order == ["a", "b", "c"]


async def test_a_task_that_looks_at_its_parents(app: App, caplog: pytest.LogCaptureFixture) -> None:
    handled: list[str] = []

    async def process_normally() -> None:
        handled.append("normally")

    async def handle_partial_failure() -> None:
        handled.append("partially")

    @app.task
    async def extract(fails: bool = False) -> None:
        if fails:
            raise ValueError("no source")

    # no annotation: that is how it is typed by hand
    @app.task(pass_context=True)
    async def process_data(context):  # type: ignore[no-untyped-def]
        parent_statuses = await context.get_parent_statuses_async()
        if all(status == "succeeded" for status in parent_statuses.values()):
            await process_normally()
        else:
            failed_jobs = [job_id for job_id, status in parent_statuses.items() if status == "failed"]
            logger.warning(f"Parents {failed_jobs} failed")  # noqa: G004
            await handle_partial_failure()

    good, bad = await extract.defer_async(), await extract.defer_async(fails=True)
    await process_data.configure(depends_on=[good]).defer_async()
    await run_workers(app)
    assert handled == ["normally"]

    last = await process_data.configure(depends_on=[good, bad]).defer_async()
    await run_workers(app)
    assert handled == ["normally", "partially"]
    assert f"Parents [{bad}] failed" in caplog.text
    assert [(await job(app, each)).status for each in (good, bad, last)] == ["succeeded", "failed", "succeeded"]
    error = (await job(app, bad)).error
    assert error is not None
    assert "ValueError: no source" in error


async def test_a_plain_function_looks_at_its_parents_too(app: App) -> None:
    seen: list[dict[int, str]] = []

    @app.task
    def parent() -> None: ...

    @app.task(pass_context=True)
    def child(context: JobContext) -> None:
        seen.append(context.get_parent_statuses())

    first, second = await parent.batch_defer_async({}, {})
    await child.configure(depends_on=[second, first]).defer_async()
    await child.defer_async()
    await run_workers(app, concurrency=1)
    assert sorted(seen, key=len) == [{}, {first: "succeeded", second: "succeeded"}]
    assert [type(status) for statuses in seen for status in statuses.values()] == [str, str]
    assert [list(statuses) for statuses in seen if statuses] == [[first, second]]


async def test_the_statuses_of_cancelled_and_deleted_parents(app: App) -> None:
    seen: list[dict[int, str]] = []

    @app.task
    async def parent() -> None: ...

    @app.task(pass_context=True)
    async def child(context: JobContext) -> None:
        seen.append(await context.get_parent_statuses_async())

    parents = await parent.batch_defer_async({}, {}, {})
    await child.configure(depends_on=parents).defer_async()
    await app.job_manager.cancel_job_by_id_async(parents[0])
    await app.job_manager.cancel_job_by_id_async(parents[1], delete_job=True)
    await run_workers(app)
    assert seen == [dict(zip(parents, ["cancelled", "cancelled", "succeeded"], strict=True))]


async def test_a_parent_that_waits_for_a_retry_has_not_ended(app: App) -> None:
    order: list[str] = []

    @app.task(retry=2, pass_context=True)
    async def flaky(context: JobContext) -> None:
        order.append(f"attempt {context.attempt}")
        if context.attempt < 3:
            raise ValueError(context.attempt)

    @app.task
    async def child() -> None:
        order.append("child")

    await child.configure(depends_on=[await flaky.defer_async()]).defer_async()
    await run_workers(app)
    assert order == ["attempt 1", "attempt 2", "attempt 3", "child"]


async def test_several_workers_keep_the_order(app: App) -> None:
    """Five layers of five jobs, each waiting for the whole layer before it."""
    running: dict[int, int] = {}
    overlaps: list[tuple[int, int]] = []

    @app.task
    async def step(layer: int) -> None:
        running[layer] = running.get(layer, 0) + 1
        overlaps.extend((layer, other) for other, count in running.items() if other != layer and count)
        await anyio.lowlevel.checkpoint()
        running[layer] -= 1

    ids: list[int] = []
    everything: list[int] = []
    for layer in range(5):
        ids = await step.configure(depends_on=ids).batch_defer_async(*[{"layer": layer}] * 5)
        everything += ids
    await run_workers(app, count=3, concurrency=2)
    assert overlaps == []
    assert {(await job(app, each)).status for each in everything} == {Status.SUCCEEDED}
    assert {(await job(app, each)).claim for each in everything} == {1}


async def test_deleting_a_job_deletes_its_edges(app: App, dsn: str) -> None:
    @app.task
    async def task() -> None: ...

    parent, other = await task.batch_defer_async({}, {})
    child = await task.configure(depends_on=[parent, other]).defer_async()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("DELETE FROM procrastinate_deps.jobs WHERE id = %s", [parent])
        assert await edges(connection) == [(other, child)]
        await connection.execute("DELETE FROM procrastinate_deps.jobs WHERE id = %s", [child])
        assert await edges(connection) == []
    await run_workers(app)
    assert [(each.id, each.status) for each in await app.job_manager.list_jobs_async()] == [(other, "succeeded")]


async def edges(connection: psycopg.AsyncConnection[Any]) -> list[tuple[int, int]]:
    cursor = await connection.execute("SELECT parent_id, child_id FROM procrastinate_deps.job_dependencies")
    return await cursor.fetchall()
