"""docs/semantics.md, section 2: parents, schedule, queue pause and lock, in this order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.semantics.database import (
    PATIENCE_S,
    SCHEMA,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups


# The gates, in order: parents, schedule, queue pause, lock


def ahead(**distance: float) -> str:
    return (datetime.now(UTC) + timedelta(**distance)).isoformat()


async def fetch_when_due(db: Database, queue: str) -> list[int]:
    """As a worker does: sleeps for as long as next_due says, and fetches."""
    with anyio.fail_after(PATIENCE_S):
        while not (fetched := await db.fetch(1, [queue])):
            due = await db.value(f"SELECT {SCHEMA}.next_due($1)", [queue])
            assert due is not None, "nothing is in sight"
            await anyio.sleep(due)
    return fetched


async def test_2_gate_schedule_after_parents(db: Database) -> None:
    """A child with a time of its own waits for it after its parents have ended."""
    parent = await db.defer()
    child = await db.defer(parent, scheduled_at=ahead(hours=1))
    await db.end("succeeded", parent)
    assert (await db.status(child), await db.column(child, "gate")) == ("todo", "scheduled")
    assert await db.fetch(1) == []
    due = await db.value(f"SELECT {SCHEMA}.next_due(NULL)")
    assert 3500 < due <= 3600


async def test_2_gate_parents_after_schedule(db: Database) -> None:
    """A time that has come runs no job whose parents are live."""
    parent = await db.defer()
    child = await db.defer(parent, scheduled_at=ahead(hours=-1))
    assert await db.fetch(2) == [parent]
    assert await db.fetch(2) == []
    await db.finish({parent: "succeeded"})
    assert await db.fetch(2) == [child]


async def test_2_gate_schedule_opens_when_the_time_comes(db: Database) -> None:
    """A job whose time comes is fetched then, and not before."""
    job = await db.defer(scheduled_at=ahead(milliseconds=300), queue="q")
    assert await db.fetch(1) == []
    assert await fetch_when_due(db, "q") == [job]
    assert await db.value(f"SELECT started_at >= scheduled_at FROM {SCHEMA}.jobs WHERE id = $1", job)


async def test_2_gate_queue_pause(db: Database) -> None:
    """Nothing is fetched from a paused queue, also what becomes runnable meanwhile."""
    parent = await db.defer()
    child = await db.defer(parent, queue="paused")
    await db.pause("paused")
    await db.end("succeeded", parent)
    assert await db.status(child) == "todo"
    assert await db.fetch(1) == []
    assert await db.fetch(1, ["paused"]) == []
    assert await db.resume("paused")
    assert await db.fetch(1) == [child]


async def test_2_gate_lock_is_mutual_exclusion(db: Database) -> None:
    """Of the jobs with one lock one runs at a time, across queues."""
    first, second = await db.defer(lock="l"), await db.defer(lock="l")
    assert await db.fetch(10) == [first]
    assert await db.fetch(10) == []
    await db.finish({first: "succeeded"})
    assert await db.fetch(10) == [second]


async def test_2_gate_lock_order_is_priority_then_id(db: Database) -> None:
    """The line of a lock: highest priority first, then the lowest id, over all queues."""
    low, first, second, high = [await db.defer(lock="l", priority=p) for p in (-1, 0, 0, 5)]
    order = []
    while fetched := await db.fetch(10):
        assert len(fetched) == 1
        order += fetched
        await db.finish(dict.fromkeys(fetched, "succeeded"))
    assert order == [high, first, second, low]


@pytest.mark.parametrize("waits_for", ["a parent", "its time", "its queue"])
async def test_2_only_a_job_past_the_other_gates_queues_for_its_lock(db: Database, waits_for: str) -> None:
    """Blocked, future and paused jobs are in nobody's way, whatever their priority."""
    match waits_for:
        case "a parent":
            await db.defer(await db.defer(queue="elsewhere"), lock="l", priority=100, queue="q")
        case "its time":
            await db.defer(scheduled_at=ahead(hours=1), lock="l", priority=100, queue="q")
        case _:
            await db.pause("paused")
            await db.defer(lock="l", priority=100, queue="paused")
    job = await db.defer(lock="l", queue="q")
    assert await db.fetch(10, ["q", "paused"]) == [job]


async def test_2_a_retry_waiting_job_does_not_hold_its_lock(db: Database) -> None:
    """While a job waits for its next attempt, others of its lock run. (procrastinate's keeps the lock.)"""
    retried, next_one = await db.defer(lock="l", priority=9), await db.defer(lock="l")
    assert await db.fetch(10) == [retried]
    assert await db.fetch(10) == []
    await db.finish({retried: "todo"}, retries={retried: {"retry_at": ahead(hours=1)}})
    assert await db.fetch(10) == [next_one]


async def test_2_a_future_job_takes_its_place_in_the_line_when_its_time_comes(db: Database) -> None:
    """From then on it queues for its lock by its priority."""
    running = await db.defer(lock="l")
    assert await db.fetch(1) == [running]
    low = await db.defer(lock="l", priority=1)
    high = await db.defer(lock="l", priority=2, scheduled_at=ahead(milliseconds=200), queue="q")
    assert await db.fetch(10) == []
    with anyio.fail_after(PATIENCE_S):
        while await db.column(high, "gate") == "scheduled":
            await anyio.sleep(await db.value(f"SELECT {SCHEMA}.next_due('{{}}')") or 0.0)
            assert await db.fetch(10) == []
    await db.finish({running: "succeeded"})
    assert await db.fetch(10) == [high]
    await db.finish({high: "succeeded"})
    assert await db.fetch(10) == [low]


LEAVING = [
    "cancelled",
    "cancelled by plain SQL",
    "failed by plain SQL",
    "deleted",
    "deleted by plain SQL",
    "blocked by add_dependencies",
    "blocked by a parent's retry",
    "blocked by a parent's revival by plain SQL",
    "rescheduled",
    "its queue paused",
    "moved to a paused queue",
    "given another lock",
]


@pytest.mark.parametrize("how", LEAVING)
async def test_2_granted_lock_is_handed_on_when_its_job_leaves_the_line(
    db: Database, wakeups: Wakeups, how: str
) -> None:
    """A lock that was granted to a job which has not started goes to the next one when that job leaves the line, in the
    same transaction, and the next one is announced."""
    parent = await db.defer()
    await db.end("succeeded", parent)
    if how == "moved to a paused queue":
        await db.pause("elsewhere")
    running = await db.defer(lock="l", priority=9)
    granted = await db.defer(parent, lock="l", priority=5, queue="granted")
    following = await db.defer(lock="l", queue="following")
    assert await db.fetch(1) == [running]
    assert await db.fetch(10) == []
    # Both are parked now. The next two fetches can only return what was handed the lock.
    await db.finish({running: "succeeded"})
    await wakeups.heard()
    assert await db.fetch(10, ["following"]) == []

    async with db.transaction():
        match how:
            case "cancelled":
                await db.cancel(granted)
            case "cancelled by plain SQL":
                await db.set_status("cancelled", granted)
            case "failed by plain SQL":
                await db.set_status("failed", granted)
            case "deleted":
                await db.cancel(granted, delete_job=True)
            case "deleted by plain SQL":
                await db.delete(granted)
            case "blocked by add_dependencies":
                await db.add_dependencies(granted, await db.defer(queue="granted"))
            case "blocked by a parent's retry":
                await db.retry(parent)
            case "blocked by a parent's revival by plain SQL":
                await db.set_status("todo", parent)
            case "rescheduled":
                await db.execute(
                    f"UPDATE {SCHEMA}.jobs SET scheduled_at = now() + interval '1 h' WHERE id = $1", granted
                )
            case "its queue paused":
                await db.pause("granted")
            case "moved to a paused queue":
                await db.execute(f"UPDATE {SCHEMA}.jobs SET queue = 'elsewhere' WHERE id = $1", granted)
            case "given another lock":
                await db.execute(f"UPDATE {SCHEMA}.jobs SET lock = 'another' WHERE id = $1", granted)
        assert await db.fetch(10, ["following"]) == [following]
    assert "following" in await wakeups.queues()


async def test_2_a_better_job_takes_a_granted_lock_that_was_not_started(db: Database) -> None:
    """The order of the line holds until a job starts, also against one that was granted the lock."""
    running, granted = await db.defer(lock="l"), await db.defer(lock="l")
    assert await db.fetch(1) == [running]
    assert await db.fetch(10) == []
    await db.finish({running: "succeeded"})
    better = await db.defer(lock="l", priority=5)
    assert await db.fetch(10) == [better]
    await db.finish({better: "succeeded"})
    assert await db.fetch(10) == [granted]


async def test_2_resumed_queue_enters_the_lines_of_its_locks_again(db: Database) -> None:
    """A job that was parked when its queue was paused is not forgotten behind a lock that nobody has by then."""
    running = await db.defer(lock="l", queue="running")
    parked = await db.defer(lock="l", queue="paused")
    assert await db.fetch(10) == [running]
    assert await db.fetch(10) == []
    await db.pause("paused")
    await db.finish({running: "succeeded"})
    assert await db.fetch(10) == []
    await db.resume("paused")
    assert await db.fetch(10) == [parked]


async def test_2_a_job_put_back_to_todo_gives_its_lock_to_a_better_one_in_line(db: Database) -> None:
    """In another queue too, whose workers would otherwise wait for somebody to fetch the first one."""
    first = await db.defer(lock="lock", queue="a", priority=1)
    second = await db.defer(lock="lock", queue="b", priority=1)
    await db.start(first)
    await db.finish({first: "todo"}, retries={first: {"priority": 0}})
    assert await db.fetch(3, ["b"]) == [second]


async def test_2_a_queue_that_is_resumed_takes_its_place_in_line_again(db: Database) -> None:
    """A lock that was granted meanwhile to a job which has not started goes back to the better one."""
    holder = await db.defer(lock="lock", priority=3)
    better = await db.defer(lock="lock", queue="a", priority=2)
    await db.defer(lock="lock", queue="b", priority=1)
    await db.start(holder)
    assert await db.fetch(3) == []  # both are parked
    await db.pause("a")
    await db.finish({holder: "succeeded"})
    await db.resume("a")
    assert await db.fetch(3, ["a"]) == [better]
