"""docs/semantics.md, section 3: races and order, as far as one order of events shows them.

Two sessions meet here at one chosen moment: the second is seen waiting before the first commits.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
import asyncpg
import pytest

from tests.semantics.database import (
    ALREADY_ENQUEUED,
    DEPENDENCY_NOT_FOUND,
    ISOLATION_LEVEL,
    LOCK_NOT_AVAILABLE,
    SCHEMA,
    SERIALIZATION_FAILURE,
    WORKER_LOST,
    Later,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeVar

    from tests.semantics.database import Database, Wakeups

    T = TypeVar("T")

WAYS_TO_END = ["finished", "cancelled", "cancelled by plain SQL", "deleted", "rescued"]


async def end_somehow(db: Database, job: int, way: str) -> None:
    """Ends a job that `prepare` made ready for it."""
    match way:
        case "finished":
            assert await db.finish({job: "failed"}) == {}
        case "cancelled":
            assert await db.cancel(job)
        case "cancelled by plain SQL":
            await db.set_status("cancelled", job)
        case "deleted":
            await db.delete(job)
        case "rescued":
            assert await db.rescue(max_rescues=0) == {job: "failed"}


async def prepare(db: Database, job: int, way: str) -> None:
    if way in {"finished", "rescued"}:
        await db.start(job)
    if way == "rescued":
        await db.lose_worker()


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


# 7. Locks and blocked jobs


@pytest.mark.parametrize(("parents", "childs"), [(0, 0), (0, 9), (9, 0)])
async def test_3_7_a_child_may_share_its_parents_lock(db: Database, parents: int, childs: int) -> None:
    """With any priorities: while it is blocked it stands in no line."""
    parent = await db.defer(lock="l", priority=parents)
    child = await db.defer(parent, lock="l", priority=childs)
    assert await db.fetch(10) == [parent]
    assert await db.fetch(10) == []
    await db.finish({parent: "succeeded"})
    assert await db.fetch(10) == [child]


async def test_3_7_a_blocked_job_never_stops_another_one_of_its_lock(db: Database) -> None:
    parent = await db.defer()
    await db.defer(parent, lock="l", priority=99)
    await db.start(parent)
    for _ in range(3):
        free = await db.defer(lock="l")
        assert await db.fetch(10) == [free]
        await db.finish({free: "succeeded"})


async def test_3_7_a_child_released_into_a_busy_lock_waits_for_it(db: Database) -> None:
    """Its parents' end does not let it by the one that runs with its lock."""
    parent = await db.defer()
    child = await db.defer(parent, lock="l")
    running = await db.defer(lock="l")
    await db.start(running, parent)
    await db.finish({parent: "succeeded"})
    assert await db.fetch(10) == []
    await db.finish({running: "succeeded"})
    assert await db.fetch(10) == [child]


@pytest.mark.parametrize("queues", [["q", "q"], ["a", "b"]], ids=["one queue", "two queues"])
async def test_3_7_a_long_line_for_one_lock_hides_no_other_job(db: Database, queues: list[str]) -> None:
    """1,200 jobs with better priority wait for a lock that is taken: the free one behind them is fetched at once."""
    [running] = await db.defer_batch({"lock": "l", "queue": "running"})
    await db.start(running)
    waiting = await db.defer_batch(*[{"lock": "l", "priority": 5, "queue": queues[0]}] * 1_200)
    free = await db.defer(queue=queues[1])
    assert await db.fetch(1) == [free]
    await db.finish({running: "succeeded"})
    assert await db.fetch(10) == [waiting[0]]


# 8. queueing_lock


@pytest.mark.parametrize("waiting", ["blocked", "todo", "scheduled"])
async def test_3_8_queueing_lock_is_unique_over_waiting_jobs(db: Database, waiting: str) -> None:
    """A second one is refused while one is blocked or todo; nothing of its batch is inserted.

    A deduplicated node that silently drops out of a graph: pg-boss had that to fix.
    """
    match waiting:
        case "blocked":
            await db.defer(await db.defer(), queueing_lock="k")
        case "todo":
            await db.defer(queueing_lock="k")
        case _:
            await db.defer(queueing_lock="k", scheduled_at="2999-01-01T00:00:00Z")
    before = await db.snapshot()
    with refused(ALREADY_ENQUEUED):
        await db.defer_batch({}, {"after": [0], "queueing_lock": "k"}, {"after": [1]})
    assert await db.snapshot() == before


async def test_3_8_queueing_lock_within_one_batch(db: Database) -> None:
    """A conflict between two jobs of one batch refuses the whole batch, too."""
    with refused(ALREADY_ENQUEUED):
        await db.defer_batch({}, {"queueing_lock": "k"}, {"after": [1], "queueing_lock": "k"})
    assert await db.count() == 0


@pytest.mark.parametrize("status", ["doing", "succeeded", "cancelled"])
async def test_3_8_queueing_lock_is_free_once_the_job_started_or_ended(db: Database, status: str) -> None:
    job = await db.defer(queueing_lock="k")
    if status == "doing":
        await db.start(job)
    else:
        await db.end(status, job)
    await db.defer(queueing_lock="k")


async def test_3_8_a_child_keeps_its_queueing_lock_from_blocked_to_todo(db: Database) -> None:
    parent = await db.defer()
    child = await db.defer(parent, queueing_lock="k")
    await db.end("succeeded", parent)
    with refused(ALREADY_ENQUEUED):
        await db.defer(queueing_lock="k")
    await db.start(child)
    await db.defer(queueing_lock="k")


@pytest.mark.parametrize("by", ["retry_job", "retry of a lost worker's", "plain SQL", "revival of a parent"])
async def test_3_8_a_revival_by_hand_that_conflicts_changes_nothing(db: Database, by: str) -> None:
    """AlreadyEnqueued, for the job itself and for a dependent that would wait again."""
    parent = await db.defer()
    job = await db.defer(parent, queueing_lock="k", rule="all_succeeded")
    if by == "revival of a parent":
        await db.end("failed", parent)
        assert await db.status(job) == "cancelled upstream"
    else:
        await db.end("succeeded", parent)
        await db.start(job)
        if by != "retry of a lost worker's":
            await db.finish({job: "failed"})
    await db.defer(queueing_lock="k")
    await db.lose_worker()
    before = await db.snapshot()
    with refused(ALREADY_ENQUEUED):
        match by:
            case "plain SQL":
                await db.set_status("todo", job)
            case "revival of a parent":
                await db.retry(parent)
            case _:
                await db.retry(job)
    assert await db.snapshot() == before


@pytest.mark.parametrize("by", ["automatic retry", "rescue"])
async def test_3_8_an_automatic_retry_that_conflicts_fails_with_that_reason(
    db: Database, other: Database, by: str
) -> None:
    """Never stuck in doing; its children are settled, its lock is handed on.

    procrastinate #1446: the row stays doing for ever.
    """
    job = await db.defer(queueing_lock="k", lock="l", priority=1)
    child = await db.defer(job, rule="all_succeeded")
    parked = await db.defer(lock="l")
    await db.start(job)
    assert await db.fetch(10) == []
    rival = await db.defer(queueing_lock="k", scheduled_at="2999-01-01T00:00:00Z")
    if by == "rescue":
        await db.lose_worker()
        assert await other.rescue() == {job: "failed"}
    else:
        bystander = await db.defer()
        await db.start(bystander)
        assert await db.finish({job: "todo", bystander: "todo"}, errors={job: "ValueError: boom"}) == {}
        assert await db.status(bystander) == "todo"
        await db.start(bystander)
        assert "ValueError: boom" in await db.column(job, "error")
    assert await db.statuses(job, child, rival) == ["failed", "cancelled upstream", "todo"]
    assert (await db.column(job, "error")).startswith("AlreadyEnqueued: ")
    assert await other.fetch(10) == [parked]


# 9. Open transactions of users


@pytest.mark.parametrize("savepoint", [False, True])
async def test_3_9_an_open_deferral_delays_the_end_of_its_parents_only(
    db: Database, other: Database, savepoint: bool
) -> None:
    """The end is refused as busy without a wait, other ends of the batch are given; who holds the job is named, also
    where it was deferred inside a savepoint."""
    held, free = await db.defer_batch({}, {})
    await other.start(held, free)
    async with db.transaction():
        async with db.transaction() if savepoint else contextlib.nullcontext():
            child = await db.defer(held)
        assert await other.finish({held: "succeeded", free: "succeeded"}) == {held: "busy"}
        assert await other.statuses(held, free) == ["doing", "succeeded"]
        holders = await other.rows(f"SELECT job_id, pid FROM {SCHEMA}.job_holders($1)", [held])
        assert {(row["job_id"], row["pid"]) for row in holders} == {(held, db.connection.get_server_pid())}
    assert await other.finish({held: "succeeded"}) == {}
    assert await db.status(child) == "todo"


async def test_3_9_a_deferral_that_is_rolled_back_leaves_nothing(db: Database, other: Database) -> None:
    parent = await db.defer()
    await other.start(parent)
    transaction = db.connection.transaction()
    await transaction.start()
    child = await db.defer(parent)
    assert await other.finish({parent: "succeeded"}) == {parent: "busy"}
    await transaction.rollback()
    assert await other.finish({parent: "succeeded"}) == {}
    assert await db.status(child) is None


async def test_3_9_an_open_deferral_delays_the_end_of_an_ancestor_that_would_cancel_its_parent(
    db: Database, other: Database
) -> None:
    """Such an end gives up after about a second, changes nothing, and can be given when the transaction is closed."""
    root = await db.defer()
    parent = await db.defer(root, rule="all_succeeded")
    await other.start(root)
    async with db.transaction():
        child = await db.defer(parent, rule="all_succeeded")
        with refused(LOCK_NOT_AVAILABLE):
            await other.finish({root: "failed"})
        assert await other.statuses(root, parent) == ["doing", "blocked"]
        holders = await other.rows(f"SELECT pid FROM {SCHEMA}.job_holders($1)", [root])
        assert {row["pid"] for row in holders} == {db.connection.get_server_pid()}
    assert await other.finish({root: "failed"}) == {}
    assert await db.statuses(parent, child) == ["cancelled upstream", "cancelled upstream"]


async def test_3_9_an_open_deferral_does_not_delay_an_end_that_releases_its_parent(
    db: Database, other: Database
) -> None:
    """A parent that becomes runnable stays live, so that its new child is in nobody's way."""
    root = await db.defer()
    parent = await db.defer(root, rule="all_succeeded")
    await other.start(root)
    async with db.transaction():
        child = await db.defer(parent)
        assert await other.finish({root: "succeeded"}) == {}
        assert await other.fetch(1) == [parent]
    assert await db.status(child) == "blocked"


# 10. Callers' transactions


async def test_3_10_a_job_is_part_of_the_callers_transaction(db: Database, other: Database) -> None:
    transaction = db.connection.transaction()
    await transaction.start()
    parent = await db.defer()
    child = await db.defer(parent)
    assert await other.statuses(parent, child) == [None, None]
    await transaction.rollback()
    assert await db.count() == 0


async def test_3_10_a_refused_deferral_can_be_undone_to_a_savepoint(db: Database) -> None:
    """Our errors inside a savepoint leave the caller's transaction usable, and what it did before stands."""
    async with db.transaction():
        await db.defer(queueing_lock="k")
        with refused(ALREADY_ENQUEUED):
            async with db.transaction():
                await db.defer(queueing_lock="k")
        with refused(DEPENDENCY_NOT_FOUND):
            async with db.transaction():
                await db.defer(10**12)
        await db.defer()
    assert await db.count() == 2


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_3_10_deferring_works_at_every_isolation_level(db: Database, other: Database, isolation: str) -> None:
    ended, live = await db.defer_batch({}, {})
    await db.end("failed", ended)
    async with db.transaction(isolation):
        runnable = await db.defer(ended)
        cancelled = await db.defer(ended, rule="all_succeeded")
        blocked = await db.defer(ended, live)
        _, below = await db.defer_batch({"queueing_lock": "k"}, {"after": [0]})
    assert await other.statuses(runnable, cancelled, blocked, below) == [
        "todo",
        "cancelled upstream",
        "blocked",
        "blocked",
    ]
    await other.end("succeeded", live)
    assert await db.status(blocked) == "todo"


@pytest.mark.parametrize("way", WAYS_TO_END)
@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_3_10_a_snapshot_from_before_the_parents_end_loses_no_wakeup(
    db: Database, other: Database, isolation: str, way: str
) -> None:
    """Where the deferring transaction can't see that the parent has ended, it is refused (40001) and can be done again.

    A child that waits for ever for an ended parent is not possible.
    """
    parent = await db.defer()
    with refused(SERIALIZATION_FAILURE):
        async with db.transaction(isolation):
            assert await db.status(parent) == "todo"
            await prepare(other, parent, way)
            await end_somehow(other, parent, way)
            await db.defer(parent)
    if way != "deleted":
        assert await db.status(await db.defer(parent)) == "todo"


@pytest.mark.parametrize(
    "act",
    [
        "fetch",
        "finish",
        "cancel",
        "plain update",
        "plain delete",
        "delete an edge",
        "retry",
        "rescue",
        "add",
        "remove",
        "prune",
        "pause",
        "resume",
    ],
)
@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_3_10_what_settles_children_requires_read_committed(db: Database, isolation: str, act: str) -> None:
    """And says so; nothing is changed."""
    parent, running, ended = await db.defer_batch({}, {}, {})
    child = await db.defer(parent)
    await db.start(running)
    await db.end("succeeded", ended)
    await db.pause("paused")
    before = await db.snapshot()
    with refused(ISOLATION_LEVEL) as refusal:
        async with db.transaction(isolation):
            match act:
                case "fetch":
                    await db.fetch(1)
                case "finish":
                    await db.finish({running: "succeeded"})
                case "cancel":
                    await db.cancel(parent)
                case "plain update":
                    await db.set_status("failed", parent)
                case "plain delete":
                    await db.delete(parent)
                case "delete an edge":
                    await db.delete_edge(parent, child)
                case "retry":
                    await db.retry(ended)
                case "rescue":
                    await db.rescue()
                case "add":
                    await db.add_dependencies(child, running)
                case "remove":
                    await db.remove_dependencies(child, parent)
                case "prune":
                    await db.prune()
                case "pause":
                    await db.pause("q")
                case "resume":
                    await db.resume("paused")
    assert "READ COMMITTED" in refusal.message
    assert isolation.replace("_", " ").upper() in refusal.message
    assert await db.snapshot() == before
