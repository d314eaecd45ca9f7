"""docs/semantics.md, section 3.1 to 3.6: races between ends, claims, deferrals and cascades, and who is woken."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
import asyncpg
import pytest

from tests.semantics.database import (
    DEPENDENCY_NOT_FOUND,
    SCHEMA,
    WORKER_LOST,
    Later,
    refused,
)
from tests.semantics.ways import WAYS_TO_END, end_somehow, prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeVar

    from tests.semantics.database import Database, Wakeups

    T = TypeVar("T")


@contextlib.asynccontextmanager
async def meanwhile(db: Database, waiting: Database, call: Callable[[], Awaitable[T]]) -> AsyncIterator[Later[T]]:
    """Inside: an open transaction of db, at whose end another session's call already waits for it."""
    later = Later(call)
    async with anyio.create_task_group() as tasks, db.transaction():
        yield later
        tasks.start_soon(later.run)
        await db.until_waiting(waiting)


# 1. A child never starts before the commit that made its last parent terminal


async def test_3_1_a_child_starts_only_after_the_commit_of_its_parents_end(db: Database, other: Database) -> None:
    """While the transaction that ends the last parent is open nobody else gets the child."""
    parent = await db.defer()
    child = await db.defer(parent)
    await db.start(parent)
    async with db.transaction():
        await db.finish({parent: "succeeded"})
        assert await other.fetch(10) == []
    assert await other.fetch(10) == [child]


async def test_3_1_an_end_that_is_rolled_back_released_nobody(db: Database, other: Database) -> None:
    """What ended a parent was undone: it runs on, the child waits on, and the end can be given again."""
    parent = await db.defer()
    child = await db.defer(parent)
    await db.start(parent)
    transaction = db.connection.transaction()
    await transaction.start()
    await db.finish({parent: "succeeded"})
    await transaction.rollback()
    assert await other.statuses(parent, child) == ["doing", "blocked"]
    assert await db.finish({parent: "succeeded"}) == {}
    assert await other.fetch(10) == [child]


# 2. Claims


async def test_3_2_no_job_is_claimed_by_two_workers(db: Database, other: Database) -> None:
    """What one worker is just claiming another passes by, without waiting."""
    jobs = await db.defer_batch(*[{}] * 6)
    async with db.transaction():
        mine = await db.fetch(4)
        theirs = await other.fetch(4)
    assert (mine, theirs) == (jobs[:4], jobs[4:])
    assert await other.fetch(4) == []


@pytest.mark.parametrize("order", ["queues of their own", "one queue"])
async def test_3_2_best_priority_first_then_the_lowest_id(db: Database, order: str) -> None:
    """A fetch takes the best of all its queues, in order."""
    queue = {} if order == "queues of their own" else {"queue": "q"}
    jobs = [await db.defer(priority=priority, **queue) for priority in (0, 5, -5, 5)]
    expected = [jobs[1], jobs[3], jobs[0], jobs[2]]
    assert await db.fetch(3) == expected[:3]
    assert await db.fetch(3) == expected[3:]


@pytest.mark.parametrize("lost_by", ["rescue", "retry by hand", "plain SQL"])
@pytest.mark.parametrize("claimed_again", [True, False])
async def test_3_2_a_worker_that_lost_its_job_can_not_end_it(
    db: Database, other: Database, lost_by: str, claimed_again: bool
) -> None:
    """Its late end is refused as stale, and changes nothing, whether another worker has the job by now or not.

    procrastinate has no such fence: a zombie's end succeeds while the other worker still runs the job.
    """
    job = await db.defer()
    child = await db.defer(job)
    await db.start(job)
    first_claim = db.claims[job]
    match lost_by:
        case "rescue":
            await db.lose_worker()
            assert await other.rescue() == {job: "todo"}
        case "retry by hand":
            await db.lose_worker()
            await other.retry(job)
        case _:
            await other.set_status("todo", job)
    if claimed_again:
        await other.start(job)
        assert other.claims[job] > first_claim
    before = await other.snapshot()
    for status in ("succeeded", "failed", "todo"):
        assert await db.finish({job: status}, results={job: "late"}) == {job: "stale"}
    assert await other.snapshot() == before
    if not claimed_again:
        await other.start(job)
    assert await other.finish({job: "failed"}) == {}
    assert await other.statuses(job, child) == ["failed", "todo"]


async def test_3_2_a_late_end_of_one_job_does_not_spoil_a_batch(db: Database, other: Database) -> None:
    """Of a batch the stale ends are returned, and the others are done."""
    mine, lost, deleted = await db.defer_batch({}, {}, {})
    await db.start(mine, lost, deleted)
    await other.set_status("todo", lost)
    await other.delete(deleted)
    refusals = await db.finish({lost: "failed", mine: "succeeded", deleted: "failed"})
    assert refusals == {lost: "stale", deleted: "stale"}
    assert await db.statuses(mine, lost, deleted) == ["succeeded", "todo", None]


async def test_3_2_an_end_is_given_once(db: Database) -> None:
    """The same end again is stale: it neither counts an attempt twice nor settles the children twice."""
    first, second = await db.defer_batch({}, {})
    child = await db.defer(first, second)
    await db.start(first)
    assert await db.finish({first: "succeeded"}) == {}
    assert await db.finish({first: "failed"}) == {first: "stale"}
    assert await db.statuses(first, child) == ["succeeded", "blocked"]
    assert await db.column(first, "attempts") == 1


async def test_3_2_a_lost_worker_can_neither_beat_nor_fetch(db: Database, other: Database) -> None:
    """Once it was declared lost it hears of it at its next heartbeat, and gets no more jobs."""
    await db.defer()
    assert await db.heartbeat()
    await db.lose_worker()
    await other.rescue()
    assert not await db.heartbeat()
    with refused(WORKER_LOST):
        await db.fetch(1)
    assert len(await other.fetch(1)) == 1


# 3. Wake-ups


async def test_3_3_a_released_child_is_announced(db: Database, wakeups: Wakeups) -> None:
    """The end of the last parent wakes the workers of the child's queue; an earlier end does not.

    pg-boss: a blocked job is picked up by polling.
    """
    first, second = await db.defer_batch({}, {})
    await db.defer(first, second, queue="child")
    assert "child" not in await wakeups.queues()
    await db.end("succeeded", first)
    assert await wakeups.queues() == []
    await db.end("failed", second)
    assert await wakeups.queues() == ["child"]


@pytest.mark.parametrize("by", ["cancel", "plain update", "delete", "delete of the edge", "remove_dependencies"])
async def test_3_3_a_child_released_by_hand_is_announced(db: Database, wakeups: Wakeups, by: str) -> None:
    """The same for whatever else takes away the last live parent."""
    parent = await db.defer()
    child = await db.defer(parent, queue="child")
    await wakeups.heard()
    match by:
        case "cancel":
            await db.cancel(parent)
        case "plain update":
            await db.set_status("failed", parent)
        case "delete":
            await db.delete(parent)
        case "delete of the edge":
            await db.delete_edge(parent, child)
        case _:
            await db.remove_dependencies(child, parent)
    assert await wakeups.queues() == ["child"]
    assert await db.status(child) == "todo"


@pytest.mark.parametrize("by", ["retry at once", "rescue", "retry_job", "plain SQL", "plain SQL of a running job"])
async def test_3_3_a_retried_job_is_announced(db: Database, other: Database, wakeups: Wakeups, by: str) -> None:
    """procrastinate announces inserts only: an immediate retry waits for the next poll."""
    job = await db.defer(queue="q")
    await db.start(job)
    if by in {"retry_job", "plain SQL"}:
        await db.finish({job: "failed"})
    await wakeups.heard()
    match by:
        case "retry at once":
            await db.finish({job: "todo"})
        case "rescue":
            await db.lose_worker()
            await other.rescue()
        case "retry_job":
            await db.retry(job)
        case _:
            await db.set_status("todo", job)
    assert await wakeups.queues() == ["q"]
    assert await other.fetch(1) == [job]


@pytest.mark.parametrize("by", ["finish", "retry later", "cancel", "delete", "rescue"])
async def test_3_3_a_released_lock_is_announced(db: Database, other: Database, wakeups: Wakeups, by: str) -> None:
    """procrastinate wakes nobody: 15 s instead of 0.07 s for 4 jobs of one lock and 2 slots."""
    running = await db.defer(lock="l", queue="running")
    await db.defer(lock="l", queue="parked")
    await db.start(running)
    assert await db.fetch(10) == []
    await wakeups.heard()
    match by:
        case "finish":
            await db.finish({running: "succeeded"})
        case "retry later":
            await db.finish({running: "todo"}, retries={running: {"retry_at": "2999-01-01T00:00:00Z"}})
        case "cancel":
            await db.set_status("aborted", running)
        case "delete":
            await db.delete(running)
        case _:
            await db.lose_worker()
            await other.rescue(max_rescues=0)
    assert "parked" in await wakeups.queues()
    assert len(await other.fetch(10)) == 1


async def test_3_3_a_resumed_queue_is_announced(db: Database, wakeups: Wakeups) -> None:
    await db.defer(queue="q")
    assert await db.pause("q")
    assert not await db.pause("q")
    await wakeups.heard()
    assert await db.resume("q")
    assert await wakeups.queues() == ["q"]
    assert not await db.resume("q")
    assert await wakeups.queues() == []


async def test_3_3_a_schedule_that_arrives_is_foretold_and_announced(db: Database, wakeups: Wakeups) -> None:
    """Workers can know how long to sleep; who promotes the job wakes those of its queue."""
    assert await db.value(f"SELECT {SCHEMA}.next_due(NULL)") is None
    job = await db.defer(queue="q")
    await db.execute(f"UPDATE {SCHEMA}.jobs SET scheduled_at = clock_timestamp() + interval '0.2 s' WHERE id = $1", job)
    await wakeups.heard()
    due = await db.value(f"SELECT {SCHEMA}.next_due(ARRAY['elsewhere'])")
    assert 0 < due <= 0.2
    await anyio.sleep(due)
    assert await db.fetch(1, ["elsewhere"]) == []
    assert await wakeups.queues() == ["q"]


async def test_3_3_a_schedule_moved_to_now_is_announced(db: Database, wakeups: Wakeups) -> None:
    """Also when it was moved by plain SQL."""
    job = await db.defer(queue="q", scheduled_at="2999-01-01T00:00:00Z")
    await wakeups.heard()
    await db.execute(f"UPDATE {SCHEMA}.jobs SET scheduled_at = NULL WHERE id = $1", job)
    assert await wakeups.queues() == ["q"]
    assert await db.fetch(1) == [job]


async def test_3_3_an_announcement_comes_with_the_commit(db: Database, wakeups: Wakeups) -> None:
    """Not while the job can't be seen yet, and never for what was rolled back."""
    transaction = db.connection.transaction()
    await transaction.start()
    await db.defer(queue="rolled back")
    await transaction.rollback()
    async with db.transaction():
        await db.defer(queue="committed")
        assert await wakeups.queues() == []
    assert await wakeups.queues() == ["committed"]


async def test_3_3_one_announcement_per_queue_and_statement(db: Database, wakeups: Wakeups) -> None:
    """A batch says once that there is something in a queue: every notification costs all committers."""
    await db.defer_batch(*[{"queue": "a"}] * 50, *[{"queue": "b"}] * 50)
    assert sorted(payload["queue"] for payload in await wakeups.heard()) == ["a", "b"]


# 4. Two last parents


@pytest.mark.parametrize("way", WAYS_TO_END)
async def test_3_4_two_last_parents_ending_at_the_same_moment_release_the_child_once(
    db: Database, other: Database, wakeups: Wakeups, way: str
) -> None:
    """The second end waits for the first one's commit, and then sees it. No decision is taken from two snapshots, of
    which neither sees the other parent's end.

    pg-boss PR #777; BullMQ, RQ and Celery lost wake-ups so, too.
    """
    first, second = await db.defer_batch({}, {})
    child = await db.defer(first, second, queue="child")
    await db.start(first)
    await prepare(other, second, way)
    if way == "rescued":
        await db.heartbeat()
    await wakeups.heard()
    async with meanwhile(db, other, lambda: end_somehow(other, second, way)) as later:
        await db.finish({first: "succeeded"})
        assert await db.status(child) == "blocked"
    assert later.sqlstate is None
    assert [p["queue"] for p in await wakeups.heard() if p["type"] == "job_ready"] == ["child"]
    assert await db.fetch(2, ["child"]) == [child]
    assert await db.fetch(2, ["child"]) == []


async def test_3_4_two_parents_with_two_children_in_crossed_order(db: Database, other: Database) -> None:
    """Children are locked in one order, whatever the order of their edges: no deadlock.

    JobService #94: two parents that share two children lock them in different orders.
    """
    first, second, third = await db.defer_batch({}, {}, {})
    x, y = await db.defer(first, third), await db.defer(first, third)
    await db.add_dependencies(y, second)
    await db.add_dependencies(x, second)
    await db.start(first)
    await other.start(second, third)
    async with meanwhile(db, other, lambda: other.finish({third: "succeeded", second: "succeeded"})) as later:
        await db.finish({first: "succeeded"})
    assert later.value == {}
    assert await db.statuses(x, y) == ["todo", "todo"]


# 5. A child deferred while its parent is ending


@pytest.mark.parametrize("way", WAYS_TO_END)
async def test_3_5_a_child_deferred_while_its_parent_is_ending(db: Database, other: Database, way: str) -> None:
    """The deferral waits for the end and then sees it: the child is neither stuck nor early.

    RQ #1615, fossology #3851: the edge comes after the cascade, and the child never runs.
    """
    parent = await db.defer()
    await prepare(db, parent, way)
    if way == "rescued":
        await other.heartbeat()
    async with meanwhile(db, other, lambda: other.defer(parent, rule="any_failed")) as later:
        await end_somehow(db, parent, way)
    if way == "deleted":
        assert later.sqlstate == DEPENDENCY_NOT_FOUND
    else:
        assert await db.status(later.value) == "todo"


@pytest.mark.parametrize("way", WAYS_TO_END)
async def test_3_5_a_parent_ended_while_its_child_is_being_deferred(db: Database, other: Database, way: str) -> None:
    """The end waits (or is refused as busy, to be given again), and then finds the child."""
    parent = await db.defer()
    await prepare(other, parent, way)
    if way == "rescued":
        await db.heartbeat()
    if way == "finished":
        async with db.transaction():
            child = await db.defer(parent, rule="any_failed")
            assert await other.finish({parent: "failed"}) == {parent: "busy"}
        await end_somehow(other, parent, way)
    elif way == "rescued":
        async with db.transaction():
            child = await db.defer(parent, rule="any_failed")
            assert await other.rescue(max_rescues=0) == {}
        await end_somehow(other, parent, way)
    else:
        async with meanwhile(db, other, lambda: end_somehow(other, parent, way)) as later:
            child = await db.defer(parent, rule="any_failed")
        assert later.sqlstate is None
    assert await db.status(child) == "todo"


async def test_3_5_a_child_deferred_of_a_job_that_is_being_cancelled_by_its_rule(db: Database, other: Database) -> None:
    """The same one level further down, where nobody named the parent that ends."""
    root = await db.defer()
    parent = await db.defer(root, rule="all_succeeded")
    await db.start(root)
    async with meanwhile(db, other, lambda: other.defer(parent, rule="all_succeeded")) as later:
        await db.finish({root: "failed"})
    assert await db.status(later.value) == "cancelled upstream"


async def test_3_5_a_child_deferred_of_a_job_that_is_just_being_released(db: Database, other: Database) -> None:
    """A job that becomes runnable stays live: deferring its child has nothing to wait for."""
    root = await db.defer()
    parent = await db.defer(root)
    await db.start(root)
    async with db.transaction():
        await db.finish({root: "failed"})
        child = await other.defer(parent)
    assert await db.statuses(parent, child) == ["todo", "blocked"]


async def test_3_5_a_parent_being_revived_while_a_child_is_deferred(db: Database, other: Database) -> None:
    """The child is decided by how its parent stands after the revival."""
    parent = await db.defer()
    await db.end("failed", parent)
    async with meanwhile(db, other, lambda: other.defer(parent, rule="all_succeeded")) as later:
        await db.retry(parent)
    assert await db.status(later.value) == "blocked"
    await db.end("succeeded", parent)
    assert await db.status(later.value) == "todo"


async def test_3_5_a_parent_fetched_while_its_child_is_being_deferred(db: Database, other: Database) -> None:
    """An open transaction that adds a child does not hide the parent from a fetch."""
    parent = await db.defer()
    async with db.transaction():
        child = await db.defer(parent)
        assert await other.fetch(1) == [parent]
    await other.finish({parent: "succeeded"})
    assert await db.status(child) == "todo"


# 6. Crossing cascades


async def test_3_6_crossing_cascades_of_a_batch(db: Database, other: Database) -> None:
    """A -> x, z; B -> y; x -> y; y -> z: two workers end A and B at once, many times; every end is given in the end."""
    for _ in range(25):
        a, b, x, y, z = await db.defer_batch(
            {},
            {},
            {"after": [0], "run_when": "all_succeeded"},
            {"after": [1, 2], "run_when": "all_succeeded"},
            {"after": [0, 3], "run_when": "all_succeeded"},
        )
        await db.start(a)
        await other.start(b)

        async def end(session: Database, job: int) -> None:
            for _ in range(5):
                try:
                    if await session.finish({job: "failed"}) == {}:
                        return
                except asyncpg.DeadlockDetectedError:
                    continue
            raise AssertionError(f"the end of {job} was lost")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end, db, a)
            tasks.start_soon(end, other, b)
        assert await db.statuses(a, b, x, y, z) == ["failed", "failed", *["cancelled upstream"] * 3]
