"""docs/semantics.md, section 5: growing and cutting a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.semantics.database import (
    ALREADY_STARTED,
    CIRCULAR,
    DEPENDENCY_NOT_FOUND,
    NO_SUCH_JOB,
    RULES,
    SCHEMA,
    Later,
    refused,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups

ENDED = ("succeeded", "failed", "aborted", "cancelled")


# 1. add_dependencies, remove_dependencies


@pytest.mark.parametrize("was", ["blocked", "todo", "scheduled", "waiting for its lock"])
async def test_5_1_add_dependencies_to_a_job_that_was_not_claimed(db: Database, was: str) -> None:
    """It is blocked from then on, until the new parent has ended too."""
    present, added = await db.defer_batch({}, {})
    match was:
        case "blocked":
            child = await db.defer(present)
        case "scheduled":
            child = await db.defer(scheduled_at="2999-01-01T00:00:00Z")
        case "waiting for its lock":
            running = await db.defer(lock="l", queue="locked")
            child = await db.defer(lock="l", queue="locked")
            assert await db.fetch(2, ["locked"]) == [running]
        case _:
            child = await db.defer()
    await db.add_dependencies(child, added)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", present)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", added)
    assert await db.status(child) == "todo"
    if was == "waiting for its lock":
        assert await db.fetch(1, ["locked"]) == []
        await db.finish({running: "succeeded"})
    if was == "scheduled":
        assert await db.column(child, "gate") == "scheduled"
    else:
        await db.start(child)


@pytest.mark.parametrize("was", ["doing", "between two attempts", "rescued", *ENDED])
async def test_5_1_add_dependencies_once_it_was_claimed(db: Database, was: str) -> None:
    """JobAlreadyStarted, with nothing changed."""
    parent, child = await db.defer_batch({}, {})
    match was:
        case "doing":
            await db.start(child)
        case "between two attempts":
            await db.start(child)
            await db.finish({child: "todo"})
        case "rescued":
            await db.start(child)
            await db.lose_worker()
            await db.rescue()
        case _:
            await db.end(was, child)
    before = await db.snapshot()
    with refused(ALREADY_STARTED) as refusal:
        await db.add_dependencies(child, parent)
    assert refusal.detail == {"job_id": child}
    assert await db.snapshot() == before


@pytest.mark.parametrize("was", ["blocked", "todo"])
@pytest.mark.parametrize("rule", RULES)
async def test_5_1_an_ended_parent_decides_a_todo_child_anew(db: Database, rule: str, was: str) -> None:
    """It may be cancelled at once; a blocked one counts the new parent when the others have ended."""
    failed, live = await db.defer_batch({}, {})
    await db.end("failed", failed)
    child = await db.defer(*([live] if was == "blocked" else []), rule=rule)
    await db.add_dependencies(child, failed)
    if was == "blocked":
        assert await db.status(child) == "blocked"
        await db.end("failed", live)
    cancelled = {"all_succeeded", "any_succeeded", "none_failed"}
    assert await db.status(child) == ("cancelled upstream" if rule in cancelled else "todo")


async def test_5_1_a_cancel_by_an_added_parent_goes_on(db: Database, wakeups: Wakeups) -> None:
    """Through the child's own children, and it is announced what becomes runnable by it."""
    failed = await db.defer()
    await db.end("failed", failed)
    child = await db.defer(rule="all_succeeded")
    handler = await db.defer(child, rule="any_failed", queue="handler")
    await wakeups.heard()
    await db.add_dependencies(child, failed)
    assert await db.statuses(child, handler) == ["cancelled upstream", "todo"]
    assert await wakeups.queues() == ["handler"]


async def test_5_1_a_todo_child_that_goes_on_being_runnable_stays_fetchable(db: Database) -> None:
    ended = await db.defer()
    await db.end("succeeded", ended)
    child = await db.defer(lock="l")
    await db.add_dependencies(child, ended)
    assert await db.fetch(1) == [child]


async def test_5_1_add_dependencies_takes_many_and_collapses_duplicates(db: Database) -> None:
    first, second, child = await db.defer_batch({}, {}, {})
    await db.add_dependencies(child, second, first, second)
    await db.add_dependencies(child, first)
    assert await db.parents(child) == [first, second]
    await db.end("succeeded", first)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", second)
    assert await db.status(child) == "todo"


async def test_5_1_add_dependencies_of_nothing_changes_nothing(db: Database) -> None:
    child = await db.defer()
    before = await db.snapshot()
    await db.add_dependencies(child)
    assert await db.snapshot() == before


async def test_5_1_add_dependencies_of_jobs_that_are_not_there(db: Database) -> None:
    """Unknown parents are all named, an unknown child too; nothing changes."""
    parent, child = await db.defer_batch({}, {})
    before = await db.snapshot()
    with refused(DEPENDENCY_NOT_FOUND) as refusal:
        await db.add_dependencies(child, parent, 10**12, 10**12 + 1)
    assert refusal.detail == {"ids": [10**12, 10**12 + 1]}
    with refused(NO_SUCH_JOB):
        await db.add_dependencies(10**12, parent)
    assert await db.snapshot() == before


async def test_5_1_an_added_parent_of_a_child_with_deleted_parents(db: Database) -> None:
    """What a deleted parent's end was still counts when the child is counted anew."""
    failed, live, added = await db.defer_batch({}, {}, {})
    child = await db.defer(failed, live, rule="all_succeeded")
    await db.end("failed", failed)
    await db.delete(failed)
    await db.add_dependencies(child, added)
    await db.end("succeeded", live, added)
    assert await db.status(child) == "cancelled upstream"


async def test_5_1_remove_dependencies_decides_a_blocked_child_anew(db: Database, wakeups: Wakeups) -> None:
    failed, live, other_live = await db.defer_batch({}, {}, {})
    child = await db.defer(failed, live, other_live, rule="all_succeeded", queue="child")
    await db.end("failed", failed)
    assert await db.remove_dependencies(child, other_live) == 1
    assert await db.status(child) == "blocked"
    assert await db.remove_dependencies(child, failed, other_live) == 1
    assert await db.status(child) == "blocked"
    await wakeups.heard()
    assert await db.remove_dependencies(child, live) == 1
    assert await db.status(child) == "todo"
    assert await wakeups.queues() == ["child"]


async def test_5_1_remove_dependencies_may_cancel(db: Database) -> None:
    """Where only parents are left for which the rule is not met."""
    failed, live = await db.defer_batch({}, {})
    child = await db.defer(failed, live, rule="all_succeeded")
    await db.end("failed", failed)
    await db.remove_dependencies(child, live)
    assert await db.status(child) == "cancelled upstream"


async def test_5_1_remove_dependencies_of_a_deleted_parent(db: Database) -> None:
    """It is no longer counted, nor reported."""
    failed, live = await db.defer_batch({}, {})
    child = await db.defer(failed, live, rule="all_succeeded")
    await db.end("failed", failed)
    await db.delete(failed)
    assert await db.remove_dependencies(child, failed) == 1
    assert await db.parent_statuses(child) == {live: "todo"}
    await db.end("succeeded", live)
    assert await db.status(child) == "todo"


@pytest.mark.parametrize("was", ["todo", "doing", "cancelled by its rule"])
async def test_5_1_remove_dependencies_leaves_what_was_decided(db: Database, was: str) -> None:
    """A todo job stays todo, and an ended one as it ended."""
    parent = await db.defer()
    child = await db.defer(parent, rule="all_succeeded" if was == "cancelled by its rule" else "any_failed")
    await db.end("failed", parent)
    if was == "doing":
        await db.start(child)
    before = await db.status(child)
    assert await db.remove_dependencies(child, parent) == 1
    assert await db.status(child) == before
    assert await db.parent_statuses(child) == {}


async def test_5_1_remove_dependencies_of_an_unknown_child(db: Database) -> None:
    with refused(NO_SUCH_JOB):
        await db.remove_dependencies(10**12, await db.defer())


# 2. Cycles


async def test_5_2_a_job_can_not_depend_on_itself(db: Database) -> None:
    job = await db.defer()
    with refused(CIRCULAR) as refusal:
        await db.add_dependencies(job, job)
    assert refusal.detail == {"cycle": [job, job]}
    assert await db.status(job) == "todo"


async def test_5_2_longer_cycles_are_refused_with_their_ids(db: Database) -> None:
    ids = await db.defer_batch({}, {"after": [0]}, {"after": [1]}, {"after": [2]}, {})
    aside = await db.defer(ids[1])
    before = await db.snapshot()
    with refused(CIRCULAR) as refusal:
        await db.add_dependencies(ids[0], ids[4], ids[3])
    assert refusal.detail == {"cycle": [ids[0], ids[1], ids[2], ids[3], ids[0]]}
    assert str(ids[2]) in refusal.message
    assert await db.snapshot() == before
    await db.add_dependencies(aside, ids[3])


async def test_5_2_a_cycle_through_jobs_that_have_ended(db: Database) -> None:
    """An edge between ended jobs counts too: a retry could close the circle."""
    first = await db.defer()
    second = await db.defer(first)
    third = await db.defer(second)
    await db.end("succeeded", first)
    await db.end("succeeded", second)
    await db.retry(first)
    with refused(CIRCULAR):
        await db.add_dependencies(first, third)


async def test_5_2_opposite_edges_of_two_sessions(db: Database, other: Database) -> None:
    """The second session waits for the first one's commit, sees its edge and is refused."""
    first, second = await db.defer_batch({}, {})
    later = Later(lambda: other.add_dependencies(second, first))
    async with anyio.create_task_group() as tasks, db.transaction():
        await db.add_dependencies(first, second)
        tasks.start_soon(later.run)
        await db.until_waiting(other)
    assert later.sqlstate == CIRCULAR
    assert await db.statuses(first, second) == ["blocked", "todo"]


async def test_5_2_edges_of_two_sessions_that_close_a_longer_cycle(db: Database, other: Database) -> None:
    """Where the two have no job in common."""
    a, b = await db.defer_batch({}, {"after": [0]})
    c, d = await db.defer_batch({}, {"after": [0]})
    later = Later(lambda: other.add_dependencies(a, d))
    async with anyio.create_task_group() as tasks, db.transaction():
        await db.add_dependencies(c, b)
        tasks.start_soon(later.run)
        await db.until_waiting(other)
    assert later.sqlstate == CIRCULAR
    assert await db.statuses(a, b, c, d) == ["todo", "blocked", "blocked", "blocked"]


@pytest.mark.parametrize("after", [[[0]], [[1], []], [[1], [0]], [[], [2], [0]], [[-1]]], ids=str)
async def test_5_2_within_one_batch_parents_come_first(db: Database, after: list[list[int]]) -> None:
    """A batch that names itself or a later job as a parent is refused, with the places; nothing is inserted."""
    with refused(CIRCULAR) as refusal:
        await db.defer_batch(*({"after": places} for places in after))
    expected = [n for n, places in enumerate(after) if any(place >= n or place < 0 for place in places)]
    assert refusal.detail == {"cycle": expected}
    assert await db.count() == 0


async def test_5_2_a_dense_graph_is_searched_in_no_time(db: Database) -> None:
    """25 layers of 4 jobs, each hanging from all of the layer before: 4^24 paths, 100 jobs."""
    batch: list[dict[str, object]] = [{} for _ in range(4)]
    for layer in range(1, 25):
        batch += [{"after": list(range(4 * layer - 4, 4 * layer))} for _ in range(4)]
    ids = await db.defer_batch(*batch)
    await db.execute("SET statement_timeout = '10 s'")
    with refused(CIRCULAR) as refusal:
        await db.add_dependencies(ids[0], ids[-1])
    assert len(refusal.detail["cycle"]) == 26
    await db.add_dependencies(await db.defer(), ids[-1])
    await db.end("failed", *ids[:4])
    assert await db.statuses(*ids[4:8]) == ["todo"] * 4


# 3. Growing a graph while it runs


async def test_5_3_a_running_job_fans_out_and_its_waiting_children_join(db: Database) -> None:
    """It defers new jobs and makes its own waiting child depend on them too, before it ends."""
    scan = await db.defer()
    join = await db.defer(scan, rule="all_succeeded")
    await db.start(scan)
    parts = await db.defer_batch(*[{"queue": "parts"}] * 5)
    await db.add_dependencies(join, *parts)
    assert await db.finish({scan: "succeeded"}) == {}
    assert await db.status(join) == "blocked"
    for part in await db.fetch(5, ["parts"]):
        assert await db.status(join) == "blocked"
        await db.finish({part: "succeeded"})
    assert await db.status(join) == "todo"
    assert list(await db.parent_statuses(join)) == sorted([scan, *parts])


async def test_5_3_a_running_job_defers_a_child_of_its_own(db: Database) -> None:
    """It names itself as the parent: the child waits for its end. (River #597: that is not possible.)"""
    running = await db.defer()
    await db.start(running)
    child = await db.defer(running, rule="all_succeeded")
    assert await db.status(child) == "blocked"
    assert await db.finish({running: "todo"}) == {}
    await db.start(running)
    assert await db.status(child) == "blocked"
    await db.finish({running: "succeeded"})
    assert await db.status(child) == "todo"


async def test_5_3_nested_fan_out(db: Database) -> None:
    """What was added can add more: the join waits for every level."""
    root = await db.defer()
    join = await db.defer(root)
    level = [root]
    await db.start(root)
    for _ in range(3):
        following = await db.defer_batch(*[{"depends_on": [parent]} for parent in level for _ in range(2)])
        await db.add_dependencies(join, *following)
        assert await db.finish(dict.fromkeys(level, "succeeded")) == {}
        await db.start(*following)
        level = following
    assert await db.status(join) == "blocked"
    await db.finish(dict.fromkeys(level, "failed"))
    assert await db.status(join) == "todo"
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.job_dependencies WHERE child_id = $1", join) == 15
