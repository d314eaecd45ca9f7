"""Why a job stands where it stands, and what is bound to happen to it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import App, SyncPsycopgConnector, statements
from procrastinate_deps.exceptions import JobNotFound
from procrastinate_deps.explanations import Decider, Explanation
from procrastinate_deps.jobs import CancelKind, Outcome, Status
from procrastinate_deps.obstacles import Lock, NoWorker, Parents, Paused, Retry, Running, Schedule, Slot
from procrastinate_deps.retry import RetryDecision
from procrastinate_deps.times import utc_now
from tests.integration.worker_helpers import ended, query, working

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps.statements import Statement

JOBS = "procrastinate_deps.jobs"


async def defer(app: App, task: str = "t", **options: Any) -> int:
    arguments = options.pop("task_kwargs", {})
    return await app.configure_task(task, **options).defer_async(**arguments)


async def run(app: App, statement: Statement[Any]) -> Any:
    return await app.connector.execute_async(statement)  # type: ignore[union-attr]


async def register(app: App, queues: list[str] | None = None, concurrency: int = 1) -> int:
    worker = statements.register_worker("w", "host", 42, queues, concurrency, "1")
    return int(await run(app, worker))


async def start(app: App, worker_id: int, queues: list[str] | None = None) -> Any:
    (job,) = await run(app, statements.fetch_jobs(queues, worker_id, 1))
    return job


async def end(app: App, job: Any, status: str, **more: Any) -> None:
    outcome = Outcome(job_id=job.id, claim=job.claim, status=status, **more)
    assert await run(app, statements.finish_jobs([outcome], "never", app.json_dumps)) == []


async def explain(app: App, job_id: int) -> Explanation:
    """Which must be fit for JSON and for people, whatever it says."""
    found = await app.job_manager.explain_async(job_id)
    assert json.loads(json.dumps(found.as_dict()))["id"] == job_id
    assert str(found) == "\n".join(found.lines())
    return found


def kinds(found: Explanation) -> list[str]:
    return [each.kind for each in found.obstacles]


# The gates


async def test_a_free_job_without_a_worker_and_with_one(app: App) -> None:
    first, second = await defer(app, queue="q"), await defer(app, queue="q")
    other = await register(app, ["another"])
    assert (await explain(app, second)).obstacles == (NoWorker(queue="q"),)
    await register(app, ["q", "r"], 3)
    await register(app, None, 2)
    found = await explain(app, second)
    assert found.obstacles == (Slot(queue="q", workers=2, slots=5, ahead=1),)
    assert "waits for a free slot: 2 workers with 5 slots for its queue 'q'; 1 job before it" in found.lines()
    assert (await explain(app, first)).obstacles == (Slot(queue="q", workers=2, slots=5, ahead=0),)
    assert (other, found.status, found.ancestors, found.bound) == (other, Status.TODO, (), None)


async def test_workers_without_a_sign_of_life_serve_nothing(app: App, dsn: str) -> None:
    job = await defer(app)
    await register(app)
    query(dsn, "UPDATE procrastinate_deps.workers SET heartbeat_at = now() - interval '31 s'")
    assert kinds(await explain(app, job)) == ["worker"]
    query(dsn, "UPDATE procrastinate_deps.workers SET heartbeat_at = now(), lost_at = now()")
    assert kinds(await explain(app, job)) == ["worker"]


async def test_its_time_and_its_paused_queue(app: App) -> None:
    await register(app)
    job = await defer(app, queue="q", schedule_in=timedelta(days=3))
    await app.job_manager.pause_queue_async("q")
    schedule, paused = (await explain(app, job)).obstacles
    assert isinstance(schedule, Schedule)
    assert timedelta(days=2.9) < schedule.until - utc_now() < timedelta(days=3)
    assert isinstance(paused, Paused)
    assert paused.queue == "q"
    assert "waits for its queue 'q', which is paused since" in str(await explain(app, job))


async def test_a_wait_for_the_next_attempt(app: App) -> None:
    worker = await register(app)
    job_id = await defer(app)
    await end(app, await start(app, worker), "todo", error="ValueError: no", retry=RetryDecision(retry_in={"hours": 1}))
    (retry,) = (await explain(app, job_id)).obstacles
    assert isinstance(retry, Retry)
    assert retry.attempt == 2
    assert "waits for its attempt number 2: not before" in str(await explain(app, job_id))


async def test_a_lock_its_holder_and_the_place_in_line(app: App, dsn: str) -> None:
    worker = await register(app)
    running = await defer(app, "holds", lock="l")
    job = await start(app, worker)
    waiting = [await defer(app, lock="l", priority=priority) for priority in (0, 0, 5)]
    assert await run(app, statements.fetch_jobs(None, worker, 1)) == []
    found = [(await explain(app, each)).obstacles[0] for each in waiting]
    assert found == [
        Lock(lock="l", holder=running, holder_status="doing", holder_task="holds", ahead=ahead) for ahead in (1, 2, 0)
    ]
    assert f"the lock 'l', which job {running} (holds, doing) has; 2 jobs before it" in str(
        await explain(app, waiting[1])
    )
    await end(app, job, "succeeded")
    # granted, not started: it waits for a slot now, and the others for it
    assert kinds(await explain(app, waiting[2])) == ["slot"]
    (granted,) = (await explain(app, waiting[0])).obstacles
    assert granted == Lock(lock="l", holder=waiting[2], holder_status="todo", holder_task="t", ahead=0)
    # damage: nobody has it
    query(dsn, "DELETE FROM procrastinate_deps.locks")
    (nobody,) = (await explain(app, waiting[0])).obstacles
    assert "which nobody has: run check --repair" in nobody.text


async def test_a_running_job_its_worker_and_its_progress(app: App, dsn: str) -> None:
    worker = await register(app)
    job_id = await defer(app)
    job = await start(app, worker)
    query(
        dsn,
        "INSERT INTO procrastinate_deps.job_progress (job_id, claim, done, total, message) VALUES (%s, %s, 3, 10, 'x')",
        job_id,
        job.claim,
    )
    await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
    (running,) = (await explain(app, job_id)).obstacles
    assert isinstance(running, Running)
    assert (running.worker_id, running.worker, running.hostname, running.pid) == (worker, "w", "host", 42)
    assert (running.live, running.abort_requested, running.attempt) == (True, True, 1)
    assert running.progress == {"done": 3, "total": 10, "message": "x"}
    assert str(await explain(app, job_id)).endswith("3 of 10 done: x; it was asked to abort")
    query(dsn, "UPDATE procrastinate_deps.workers SET heartbeat_at = now() - interval '1 h'")
    assert "gave no sign of life for 3600 s: the job will be taken back" in str(await explain(app, job_id))
    query(dsn, "DELETE FROM procrastinate_deps.workers")
    assert "which is not known any more" in str(await explain(app, job_id))


# Ancestors and roots


async def test_ancestors_level_by_level_and_what_it_comes_down_to(app: App) -> None:
    await register(app)
    top, late = await defer(app, "top"), await defer(app, "late", schedule_in={"hours": 1})
    middle = [await defer(app, "middle", depends_on=[top]) for _ in range(2)]
    gone = await defer(app, "gone")
    await app.job_manager.cancel_job_by_id_async(gone)
    # `late` is a parent and a grandparent: it is listed once, where it is nearest
    deep = await defer(app, "deep", depends_on=[*middle, late])
    last = await defer(app, "last", depends_on=[deep, late, gone])
    found = await explain(app, last)
    assert found.obstacles == (Parents(live=2),)
    assert [(each.level, each.id) for each in found.ancestors] == [
        *((1, each) for each in sorted([deep, late])),
        *((2, each) for each in middle),
        (3, top),
    ]
    assert (found.ancestor_count, found.counted_all, found.root_count) == (5, True, 2)
    assert [(root.id, [each.kind for each in root.obstacles]) for root in found.roots] == [
        (top, ["slot"]),
        (late, ["schedule"]),
    ]
    text = str(found).splitlines()
    assert text[0] == f"job {last} is blocked (last, queue 'default')"
    assert text[1] == "waits for 2 parents to end"
    assert f"  job {top} (top, todo)" in text
    assert "  level 2" in text
    assert f"    job {middle[0]} (middle, blocked)" in text


async def test_a_running_child_of_a_revived_parent_waits_for_nothing(app: App) -> None:
    worker = await register(app)
    parent = await defer(app)
    child = await defer(app, depends_on=parent)
    await end(app, await start(app, worker), "failed")
    await start(app, worker)
    await app.job_manager.retry_job_by_id_async(parent)
    grandchild = await defer(app, depends_on=child)
    found = await explain(app, grandchild)
    assert [each.id for each in found.ancestors] == [child]
    assert kinds(await explain(app, child)) == ["running"]


async def test_more_than_it_lists(app: App) -> None:
    parents = await app.configure_task("t").batch_defer_async(*({} for _ in range(230)))
    child = await defer(app, depends_on=parents)
    found = await explain(app, child)
    assert ([each.id for each in found.ancestors], found.ancestor_count) == (parents[:200], 230)
    assert ([each.id for each in found.roots], found.root_count) == (parents[:20], 230)
    assert "  and 30 more" in found.lines()
    assert "  and 210 more" in found.lines()
    few = await app.job_manager.explain_async(child, max_ancestors=2)
    assert [each.id for each in few.ancestors] == parents[:2]


async def test_roots_are_found_beyond_what_is_counted(app: App, dsn: str) -> None:
    """As in a graph of millions: the count ends, one root is named all the same."""
    chain = [await defer(app)]
    for _ in range(30):
        chain.append(await defer(app, depends_on=chain[-1]))
    ((found,),) = query(dsn, "SELECT procrastinate_deps.explain_job(%s, 5, 20)", chain[-1])
    assert (found["looked_at_all"], found["ancestor_count"]) == (False, 20)
    assert [each["id"] for each in found["roots"]] == [chain[0]]
    assert [each["id"] for each in found["ancestors"]] == chain[-2:-7:-1]


async def test_a_huge_graph_costs_little(app: App, dsn: str) -> None:
    """1,000 levels with 10,000 parents at the top. (Without a bound on each step this takes minutes.)"""
    query(
        dsn,
        'SELECT procrastinate_deps.defer_jobs(jsonb_agg(CASE WHEN i < 10000 THEN \'{"task_name": "p"}\'::jsonb'
        " WHEN i = 10000 THEN jsonb_build_object('task_name', 'all', 'run_when', 'none_failed', 'after', ("
        "   SELECT jsonb_agg(x) FROM generate_series(0, 9999) AS x))"
        " ELSE jsonb_build_object('task_name', 'c', 'run_when', 'all_succeeded', 'after', ARRAY[i - 1])"
        " END ORDER BY i))"
        " FROM generate_series(0, 10999) AS i",
    )
    with anyio.fail_after(20):
        found = await explain(app, 11_000)
    assert (found.ancestor_count, found.root_count, len(found.ancestors)) == (10_999, 10_000, 200)
    query(dsn, f"UPDATE {JOBS} SET status = 'failed' WHERE id = 7")
    with anyio.fail_after(20):
        found = await explain(app, 11_000)
        doomed = await app.job_manager.doomed_jobs_async(range(1, 11_001))
    assert found.bound is not None
    assert (found.bound.root, found.bound.root_status, len(found.bound.chain)) == (7, "failed", 20)
    assert [each.job_id for each in doomed] == list(range(10_001, 11_001))


# What is bound to happen


async def test_it_will_be_cancelled_and_by_whom(app: App, dsn: str) -> None:
    bad, good, open_one = await defer(app), await defer(app), await defer(app)
    child = await defer(app, depends_on=[bad, good, open_one], run_when="all_succeeded")
    grandchild = await defer(app, depends_on=[child], run_when="none_failed")
    last = await defer(app, depends_on=[grandchild, open_one], run_when="all_succeeded")
    hopeful = await defer(app, depends_on=[child, open_one], run_when="any_succeeded")
    cleaner = await defer(app, depends_on=[grandchild], run_when="all_failed")
    for job, status in ((bad, "failed"), (good, "succeeded")):
        query(dsn, f"UPDATE {JOBS} SET status = %s WHERE id = %s", status, job)
    for undecided in (hopeful, cleaner):
        assert (await explain(app, undecided)).bound is None

    found = await explain(app, child)
    assert found.bound is not None
    assert found.bound.deciders == (Decider(id=bad, status=Status.FAILED),)
    assert (found.bound.kind, found.bound.root, found.bound.chain) == (CancelKind.UPSTREAM, bad, ())
    assert f"will be cancelled: parent {bad} failed (run_when all_succeeded)" in found.lines()

    found = await explain(app, last)
    assert found.bound is not None
    assert (found.bound.root, found.bound.root_status, found.bound.chain) == (bad, "failed", (grandchild, child))
    sentence = f"will be cancelled: parent {grandchild} will be cancelled, because job {bad} failed"
    assert f"{sentence} (run_when all_succeeded)" in found.lines()
    assert f"  by way of jobs {grandchild}, {child}" in found.lines()
    will_be = {each.id: each.will_be for each in found.ancestors}
    assert will_be == {grandchild: "upstream", child: "upstream", open_one: None}

    doomed = await app.job_manager.doomed_jobs_async([child, grandchild, last, hopeful, cleaner, bad])
    assert [(each.job_id, each.kind, each.because, each.root, each.root_status) for each in doomed] == [
        (child, "upstream", bad, bad, "failed"),
        (grandchild, "upstream", child, bad, "failed"),
        (last, "upstream", grandchild, bad, "failed"),
    ]
    # and so it comes
    query(dsn, f"UPDATE {JOBS} SET status = 'succeeded' WHERE id = %s", open_one)
    statuses = [await app.job_manager.get_job_status_async(job) for job in (child, grandchild, last)]
    assert statuses == ["cancelled"] * 3


async def test_many_deciders_of_several_kinds(app: App, dsn: str) -> None:
    parents = await app.configure_task("t").batch_defer_async(*({} for _ in range(8)))
    hold = await defer(app)
    blocked = await defer(app, depends_on=[parents[0], hold], run_when="all_succeeded")
    child = await defer(app, depends_on=[*parents, blocked], run_when="any_succeeded")
    for number, job in enumerate(parents):
        status = ("failed", "aborted", "cancelled")[number % 3]
        query(dsn, f"UPDATE {JOBS} SET status = %s WHERE id = %s", status, job)
    found = await explain(app, child)
    assert found.bound is not None
    assert [each.id for each in found.bound.deciders] == sorted([*parents, blocked])
    assert f"parent {parents[0]} failed, parent {parents[1]} was aborted, parent {parents[2]} was cancelled" in str(
        found
    )
    assert "and 4 more (run_when any_succeeded)" in str(found)


async def test_a_deleted_parent_decides_too(app: App, dsn: str) -> None:
    gone, live = await defer(app), await defer(app)
    child = await defer(app, depends_on=[gone, live], run_when="all_succeeded")
    query(dsn, f"DELETE FROM {JOBS} WHERE id = %s", gone)
    found = await explain(app, child)
    assert found.bound is not None
    assert (found.bound.root, found.bound.root_status) == (gone, "cancelled")
    assert f"will be cancelled: parent {gone} was cancelled" in str(found)


async def test_the_jobs_of_a_workflow_that_are_bound_to_be_cancelled(app: App) -> None:
    with pytest.raises(TypeError, match="either job_ids or workflow_id"):
        await app.job_manager.doomed_jobs_async()
    with pytest.raises(TypeError, match="either job_ids or workflow_id"):
        await app.job_manager.doomed_jobs_async([1], 1)
    assert await app.job_manager.doomed_jobs_async(workflow_id=1) == []
    assert await app.job_manager.doomed_jobs_async([]) == []


# Ends


async def test_how_it_ended_and_why(app: App) -> None:
    worker = await register(app)
    good, bad = await defer(app), await defer(app)
    unmet = await defer(app, depends_on=[good, bad], run_when="all_succeeded")
    by_hand = await defer(app, depends_on=[bad])
    await app.job_manager.cancel_job_by_id_async(by_hand)
    await end(app, await start(app, worker), "succeeded")
    await end(app, await start(app, worker), "failed", error="Traceback:\n  here\nKeyError: 'x'")
    assert "succeeded at " in str(await explain(app, good))
    assert str(await explain(app, bad)).endswith(": KeyError: 'x'")
    found = await explain(app, unmet)
    assert (found.cancel_kind, found.deciders) == ("upstream", (Decider(id=bad, status=Status.FAILED),))
    assert str(found).endswith(f" as upstream: all_succeeded: parent {bad} failed")
    assert str(await explain(app, by_hand)).endswith(" by hand: by hand")
    assert kinds(found) == []


async def test_a_job_that_is_not_there(app: App) -> None:
    with pytest.raises(JobNotFound):
        await app.job_manager.explain_async(10**9)


async def test_while_a_worker_runs(app: App) -> None:
    """What workers write is what explain reads."""
    go = anyio.Event()

    @app.task
    async def wait() -> None:
        await go.wait()

    first = await wait.defer_async()
    child = await wait.configure(depends_on=first, run_when="all_succeeded").defer_async()
    async with working(app, name="real"):
        while kinds(await explain(app, first)) != ["running"]:  # noqa: ASYNC110 - the worker says nothing
            await anyio.sleep(0.005)
        (root,) = (await explain(app, child)).roots
        (running,) = root.obstacles
        assert isinstance(running, Running)
        assert (running.worker, running.live) == ("real", True)
        go.set()
        await ended(app, child)
    assert (await explain(app, child)).status == "succeeded"


@pytest.fixture
def sync_app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


def test_without_async_and_in_ones_own_transaction(sync_app: App, dsn: str) -> None:
    import psycopg

    job = sync_app.configure_task("t").defer()
    assert sync_app.job_manager.explain(job).status == "todo"
    assert sync_app.job_manager.doomed_jobs([job]) == []
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")
        connection.execute(f"UPDATE {JOBS} SET status = 'cancelled'".encode())
        found = sync_app.job_manager.explain(job, connection=connection)
        assert found.status == "cancelled"
        assert found.finished_at is not None
        assert abs(found.finished_at - utc_now()) < timedelta(minutes=1)
        connection.rollback()
