"""What the dashboard's actions do, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from procrastinate_deps.jobs import Status
from tests.integration.dashboard_client import Visitor, visiting
from tests.integration.worker_helpers import ended, one_shot, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import App


@pytest.fixture
async def visitor(app: App) -> AsyncIterator[Visitor]:
    @app.task(name="pay", run_when="all_succeeded")
    async def pay(order: int) -> None:
        if order == 13:
            raise ValueError("declined")

    async with visiting(app, actions=True) as visitor:
        yield visitor


async def statuses(app: App, *ids: int) -> list[str]:
    return [str(await app.job_manager.get_job_status_async(job_id)) for job_id in ids]


async def test_some_jobs_at_once(app: App, visitor: Visitor) -> None:
    pay = app.tasks["pay"]
    paid, declined = await pay.defer_async(order=1), await pay.defer_async(order=13)
    await one_shot(app)
    waiting = await pay.defer_async(order=2)
    child = await pay.configure(depends_on=[waiting]).defer_async(order=3)
    ok, said = await visitor.act("/jobs/act", action="retry", ids=[paid, declined])
    assert (ok, said) == (True, "2 jobs retried")
    assert await statuses(app, paid, declined) == ["todo", "todo"]
    ok, said = await visitor.act("/jobs/act", action="retry", ids=[waiting, 4711, paid])
    assert not ok
    assert said.startswith("0 jobs retried, 3 not: ")
    ok, said = await visitor.act("/jobs/act", action="cancel", ids=[waiting, paid])
    assert (ok, said) == (True, "2 jobs cancelled")
    assert await statuses(app, waiting, child, paid) == ["cancelled", "cancelled", "cancelled"]
    ok, said = await visitor.act("/jobs/act", action="cancel", ids=[waiting])
    assert (ok, said) == (False, f"0 jobs cancelled, 1 not: job {waiting} has ended: it is cancelled")
    ok, said = await visitor.act("/jobs/act", action="delete", ids=[waiting, declined])
    assert (ok, said) == (True, "2 jobs deleted")
    assert [job.id for job in await app.job_manager.list_jobs_async()] == [paid, child]


async def test_a_running_job_is_asked_to_stop(app: App, visitor: Visitor) -> None:
    started = anyio.Event()

    @app.task(name="long")
    async def long() -> None:
        started.set()
        await anyio.sleep_forever()

    job_id = await long.defer_async()
    async with working(app):
        await started.wait()
        assert "doing" in await visitor.page(f"/jobs/{job_id}")
        assert (await visitor.act("/jobs/act", action="cancel", ids=job_id))[0] is False
        assert await visitor.act("/jobs/act", action="abort", ids=job_id) == (True, "1 job cancelled or asked to stop")
        assert (await ended(app, job_id)).status is Status.ABORTED
    assert "asked to stop" in await visitor.page(f"/jobs/{job_id}")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"action": "explode", "ids": "1"}, "No such action"),
        ({"action": "retry"}, "Select some"),
        ({"action": "retry", "ids": "x"}, "Select some"),
        ({"action": "retry", "ids": str(2**63)}, "Select some"),
        ({"action": "retry", "ids": " ".join(str(n) for n in range(1, 10_002))}, "Select no more than 10,000"),
    ],
)
async def test_what_makes_no_sense(visitor: Visitor, fields: dict[str, object], says: str) -> None:
    ok, said = await visitor.act("/jobs/act", **fields)
    assert (ok, says in said) == (False, True), said
    assert (await visitor.post("/jobs/act", fields)).status_code == 400


async def test_queues(app: App, visitor: Visitor) -> None:
    queue = "bills & <more>"
    assert await visitor.act("/queues/act", action="pause", queue=queue) == (True, f"queue {queue} is paused")
    assert await app.job_manager.list_paused_queues_async() == [queue]
    assert f"{queue} paused" in await visitor.page("/queues")
    assert await visitor.act("/queues/act", action="resume", queue=queue) == (True, f"queue {queue} goes on")
    assert await app.job_manager.list_paused_queues_async() == []
    assert (await visitor.act("/queues/act", action="pause", queue=""))[0] is False
    assert (await visitor.act("/queues/act", action="fill", queue=queue))[1] == "No such action"


async def test_a_periodic_task_now(app: App, visitor: Visitor) -> None:
    @app.periodic(cron="0 3 * * *", periodic_id="early")
    @app.task(name="nightly")
    async def nightly(timestamp: int) -> None: ...

    await one_shot(app)
    assert await visitor.act("/periodic/run", task="nightly", periodic_id="early") == (True, "deferred as job 1")
    assert (await app.job_manager.get_job_async(1)).task_name == "nightly"
    ok, said = await visitor.act("/periodic/run", task="weekly", periodic_id="")
    assert not ok
    assert "weekly" in said


async def test_a_workflow(app: App, visitor: Visitor) -> None:
    pay = app.tasks["pay"]
    async with app.workflow("bills") as workflow:
        first = workflow.add(pay, order=13)
        workflow.add(pay.configure(depends_on=first), order=2)
        workflow.add(pay, order=3)
    path = f"/workflows/{workflow.id}/act"
    await one_shot(app)

    async def counts() -> dict[str, int]:
        return {k: v for k, v in (await visitor.data(f"/workflows/{workflow.id}"))["workflow"]["counts"].items() if v}

    assert await counts() == {"succeeded": 1, "failed": 1, "cancelled": 1}
    assert await visitor.act(path, action="retry", mode="failed") == (True, "1 job to run again")
    assert await counts() == {"succeeded": 1, "todo": 1, "blocked": 1}
    assert await visitor.act(path, action="cancel") == (True, "2 jobs cancelled, 0 running asked to stop")
    assert (await visitor.act(path, action="retry", mode="all"))[0]
    assert await counts() == {"todo": 2, "blocked": 1}
    assert (await visitor.act(path, action="retry", mode="some"))[1] == "No such mode"
    assert (await visitor.act(path, action="sell"))[1] == "No such action"
    assert await visitor.act(path, action="delete") == (True, "workflow deleted, with 3 jobs")
    assert (await visitor.get(f"/workflows/{workflow.id}")).status_code == 404
    assert (await visitor.act(path, action="cancel"))[1] == "It was deleted, or it was never deferred."
