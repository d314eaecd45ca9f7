"""docs/semantics.md, section 3.7 to 3.10: locks, and transactions of users."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import (
    ALREADY_ENQUEUED,
    DEPENDENCY_NOT_FOUND,
    ISOLATION_LEVEL,
    LOCK_NOT_AVAILABLE,
    SCHEMA,
    SERIALIZATION_FAILURE,
    refused,
)
from tests.semantics.ways import WAYS_TO_END, end_somehow, prepare

if TYPE_CHECKING:
    from typing import TypeVar

    from tests.semantics.database import Database

    T = TypeVar("T")


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
