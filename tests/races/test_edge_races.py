"""Deletions, edges and revivals, met by each other and by ends half way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.races.sessions import (
    ALREADY_STARTED,
    CYCLE,
    ENDED_BY_RULE,
    JOBS,
    MISSING_PARENT,
    STRICT_CHILD,
    WAYS,
    endable,
    job,
    pairs,
)

if TYPE_CHECKING:
    from tests.races.sessions import Race, Session


# Deleting


async def physically(race: Race, first: int, second: int) -> None:
    """Sees to it that a scan of the table meets these jobs in this order."""
    order = f"SELECT array_agg(id ORDER BY ctid) FROM {JOBS} WHERE id = ANY ($1)"
    if await race.eye.value(order, [first, second]) != [first, second]:
        await race.eye.do("UPDATE jobs SET priority = priority WHERE id = $1", second)
    assert await race.eye.value(order, [first, second]) == [first, second]


@pytest.mark.parametrize("parent_first", [True, False])
async def test_parent_and_child_in_one_delete(race: Race, parent_first: bool) -> None:
    [parent] = await race.deferred(job())
    [child] = await race.deferred(job(parent))
    grandchildren = await race.deferred(job(child), job(child, run_when=STRICT_CHILD), job(child, parent))
    await physically(race, *((parent, child) if parent_first else (child, parent)))
    await race.a.do("DELETE FROM jobs WHERE id = ANY ($1)", [parent, child])
    assert await race.statuses(parent, child, *grandchildren) == [None, None, "todo", ENDED_BY_RULE, "todo"]
    await race.settled()


@pytest.mark.parametrize("ended", [True, False])
async def test_a_parent_is_deleted_while_its_child_is_deleted(race: Race, ended: bool) -> None:
    [parent] = await race.running()
    other, child = await race.deferred(job(), job(parent))
    await race.deferred(job(child))
    if ended:
        assert await race.a.finish({parent: "failed"}) == {}
    await race.a.begin()
    await race.a.end(child, "delete")
    delete = race.start(race.b, race.b.end(parent, "delete"))
    await delete.waits()
    await race.a.commit()
    await delete.done()
    assert await race.statuses(parent, child, other) == [None, None, "todo"]
    await race.settled()


async def test_a_parent_is_deleted_while_its_child_is_cancelled(race: Race) -> None:
    """The DELETE has recorded the first parent for the child, and waits for the next row of its own."""
    [parent] = await race.deferred(job())
    [other] = await race.deferred(job())
    [child] = await race.deferred(job(parent))
    await physically(race, parent, other)
    await race.c.hold(other)
    delete = race.start(race.a, race.a.do("DELETE FROM jobs WHERE id = ANY ($1)", [parent, other]))
    await delete.waits()
    cancel = race.start(race.b, race.b.end(child, "cancel"))
    await cancel.waits()
    await race.c.commit()
    await delete.done()
    await cancel.done()
    assert await race.statuses(parent, other, child) == [None, None, "cancelled:manual"]
    await race.settled()


@pytest.mark.parametrize("ended", [True, False])
async def test_two_parents_of_a_child_are_deleted_at_once(race: Race, ended: bool) -> None:
    one, other = await race.running(2)
    [child] = await race.deferred(job(one, other, run_when=STRICT_CHILD))
    if ended:
        assert await race.a.finish({one: "succeeded"}) == {}
    await race.a.begin()
    await race.a.end(one, "delete")
    delete = race.start(race.b, race.b.end(other, "delete"))
    await delete.waits()
    await race.a.commit()
    await delete.done()
    assert await race.statuses(child) == [ENDED_BY_RULE]
    await race.settled()


async def test_pruning_leaves_a_parent_to_which_a_child_is_just_added(race: Race) -> None:
    [parent] = await race.running()
    assert await race.a.finish({parent: "failed"}) == {}
    await race.a.begin()
    [child] = await race.a.defer(job(parent))
    prune = race.start(race.b, race.b.value("SELECT prune_jobs('0 s', '{failed}')"))
    race.step(await prune.over_or_waiting(), "the parent is passed by")
    await race.a.commit()
    await prune.done()
    assert await race.statuses(parent, child) == ["failed", "todo"], "the child's parent is gone"
    await race.settled()


# Edges


async def test_opposite_edges_at_once(race: Race) -> None:
    one, other = await race.deferred(job(), job())
    add = "SELECT add_dependencies($1, ARRAY[$2::bigint])"
    await race.a.begin()
    await race.a.do(add, one, other)
    opposite = race.start(race.b, race.b.do(add, other, one))
    await opposite.waits()
    await race.a.commit()
    refused = await opposite.refused()
    await race.settled()
    assert refused == CYCLE


async def test_opposite_edges_at_once_many_times(race: Race) -> None:
    add = "SELECT add_dependencies($1, ARRAY[$2::bigint])"
    for _ in range(10):
        one, other = await race.deferred(job(), job())
        attempts = [
            race.start(race.a, race.a.do(add, one, other)),
            race.start(race.b, race.b.do(add, other, one)),
        ]
        assert sorted([await attempt.refused() for attempt in attempts]) == ["", CYCLE]
    await race.settled()


async def test_a_longer_cycle_closed_by_two_sessions(race: Race) -> None:
    """one → x and other → y stand; one session adds x → other, the other y → one"""
    one, other = await race.deferred(job(), job())
    x, y = await race.deferred(job(one), job(other))
    add = "SELECT add_dependencies($1, ARRAY[$2::bigint])"
    await race.a.begin()
    await race.a.do(add, other, x)
    opposite = race.start(race.b, race.b.do(add, one, y))
    await opposite.waits()
    await race.a.commit()
    refused = await opposite.refused()
    await race.settled()
    assert refused == CYCLE


async def test_an_edge_is_added_while_its_child_is_claimed(race: Race) -> None:
    parent, child = await race.deferred(job(priority=-1), job())
    await race.a.begin()
    assert await race.a.fetch(1) == [child]
    add = race.start(race.b, race.b.do("SELECT add_dependencies($1, ARRAY[$2::bigint])", child, parent))
    await add.waits()
    await race.a.commit()
    refused = await add.refused()
    assert await race.statuses(child) == ["doing"], "a running job was blocked"
    assert refused == ALREADY_STARTED
    await race.settled()


async def test_an_edge_is_added_while_a_present_parent_ends(race: Race) -> None:
    """The child ignores its parents, so its running one does not count until it is blocked anew."""
    running, other = await race.running(2)
    [child] = await race.deferred(job(running))
    await race.a.retry(child, ignore_dependencies=True)
    await race.a.begin()
    assert await race.a.finish({running: "succeeded"}) == {}
    add = race.start(race.b, race.b.do("SELECT add_dependencies($1, ARRAY[$2::bigint])", child, other))
    await add.waits()
    await race.a.commit()
    await add.done()
    assert await race.statuses(child) == ["blocked"]
    await race.settled()


@pytest.mark.parametrize("way", WAYS)
async def test_an_edge_is_added_while_the_new_parent_ends(race: Race, way: str) -> None:
    [parent] = await endable(race, way)
    [child] = await race.deferred(job(run_when=STRICT_CHILD, queue="later"))
    await race.a.begin()
    await race.a.end(parent, way)
    add = race.start(race.b, race.b.do("SELECT add_dependencies($1, ARRAY[$2::bigint])", child, parent))
    await add.waits()
    await race.a.commit()
    assert await add.refused() == (MISSING_PARENT if way == "delete" else "")
    assert await race.statuses(child) == ["todo" if way == "delete" else ENDED_BY_RULE]
    await race.settled()


REMOVALS = {
    "verb": "SELECT remove_dependencies($1, ARRAY[$2::bigint])",
    "plain": "DELETE FROM job_dependencies WHERE child_id = $1 AND parent_id = $2",
}


@pytest.mark.parametrize(
    ("removal", "edge", "first"), pairs(REMOVALS, ["revived", "ended", "live"], ["remover", "reviver"])
)
async def test_an_edge_is_removed_by_hand_while_its_child_is_blocked_anew(
    race: Race, removal: str, edge: str, first: str
) -> None:
    """Of a child with a parent that is revived and one that has ended (its child is cancelled) or is live (blocked)."""
    revived, other = await race.running(2)
    [child] = await race.deferred(job(revived, other, run_when=STRICT_CHILD))
    assert await race.a.finish({revived: "failed", other: "succeeded"}) == {}
    if edge == "live":
        await race.a.retry(other)
        assert await race.statuses(child) == ["blocked"]
    removed = revived if edge == "revived" else other

    async def remove(session: Session) -> None:
        await session.do(REMOVALS[removal], child, removed)

    async def revive(session: Session) -> None:
        await session.retry(revived)

    steps = [remove, revive] if first == "remover" else [revive, remove]
    await race.a.begin()
    await steps[0](race.a)
    second = race.start(race.b, steps[1](race.b))
    await second.waits()
    await race.a.commit()
    await second.done()
    await race.settled()


@pytest.mark.parametrize(("removal", "first"), pairs(REMOVALS, ["remover", "finisher"]))
async def test_an_edge_is_removed_by_hand_while_its_parent_ends(race: Race, removal: str, first: str) -> None:
    parent, other = await race.running(2)
    [child] = await race.deferred(job(parent, other))
    await race.a.begin()
    if first == "remover":
        await race.a.do(REMOVALS[removal], child, parent)
        refused = await race.start(race.b, race.b.finish({parent: "succeeded"})).passes()
        race.step(refused == {parent: "busy"}, f"the parent is busy, not {refused}")
        await race.a.commit()
        assert await race.b.finish(dict.fromkeys(refused, "succeeded")) == {}
    else:
        assert await race.a.finish({parent: "succeeded"}) == {}
        remove = race.start(race.b, race.b.do(REMOVALS[removal], child, parent))
        await remove.waits()
        await race.a.commit()
        await remove.done()
    assert await race.statuses(child) == ["blocked"]
    await race.settled()


@pytest.mark.parametrize(("removal", "way"), pairs(REMOVALS, ["finish", "update"]))
async def test_an_edge_is_removed_by_hand_while_its_parents_end_waits_for_a_child(
    race: Race, removal: str, way: str
) -> None:
    """What an end means is counted before the children are held: the count of the second one must stay right."""
    parent, other = await race.running(2)
    held, child = await race.deferred(job(parent), job(parent, other))
    await race.c.hold(held)
    end = race.start(race.a, race.a.end(parent, way, status="succeeded"))
    await end.waits()
    remove = race.start(race.b, race.b.do(REMOVALS[removal], child, parent))
    await remove.waits()
    await race.c.commit()
    await end.done()
    await remove.done()
    assert await race.statuses(held, child) == ["todo", "blocked"]
    await race.settled()


@pytest.mark.parametrize("way", ["finish", "update"])
async def test_a_child_is_blocked_anew_while_its_parents_end_waits_for_another_one(race: Race, way: str) -> None:
    """As above, of a child that is not blocked when the end is counted."""
    parent, other = await race.running(2)
    held, child = await race.deferred(job(parent), job(parent))
    await race.a.retry(child, ignore_dependencies=True)
    assert await race.statuses(child) == ["todo"]
    await race.c.hold(held)
    end = race.start(race.a, race.a.end(parent, way, status="succeeded"))
    await end.waits()
    add = race.start(race.b, race.b.do("SELECT add_dependencies($1, ARRAY[$2::bigint])", child, other))
    await add.waits()
    await race.c.commit()
    await end.done()
    await add.done()
    assert await race.statuses(held, child) == ["todo", "blocked"]
    await race.settled()


@pytest.mark.parametrize("removal", REMOVALS)
async def test_an_edge_is_removed_by_hand_while_the_other_parent_ends(race: Race, removal: str) -> None:
    parent, other = await race.running(2)
    [child] = await race.deferred(job(parent, other))
    await race.a.begin()
    await race.a.do(REMOVALS[removal], child, parent)
    end = race.start(race.b, race.b.finish({other: "succeeded"}))
    await end.waits()
    await race.a.commit()
    assert await end.done() == {}
    assert await race.statuses(child) == ["todo"]
    await race.settled()


async def test_a_deleted_parent_is_forgotten_while_another_one_ends(race: Race) -> None:
    one, other = await race.running(2)
    [deleted] = await race.deferred(job())
    [child] = await race.deferred(job(one, other, deleted, run_when=STRICT_CHILD))
    await race.a.end(deleted, "delete")
    await race.a.begin()
    assert await race.a.finish({one: "succeeded"}) == {}
    forget = race.start(race.b, race.b.do(REMOVALS["verb"], child, deleted))
    await forget.waits()
    await race.a.commit()
    await forget.done()
    await race.assert_sound()
    assert await race.b.finish({other: "succeeded"}) == {}
    assert await race.statuses(child) == ["todo"]
    await race.settled()


# Revival


@pytest.mark.parametrize("how", ["verb", "plain"])
async def test_a_revival_waits_for_an_open_deferral_of_a_child(race: Race, how: str) -> None:
    """The new child counted its parent as ended: it must be seen, and blocked."""
    [parent] = await race.running()
    assert await race.a.finish({parent: "failed"}) == {}
    await race.a.begin()
    [child] = await race.a.defer(job(parent, queue="later"))
    revive = race.start(
        race.b,
        race.b.retry(parent) if how == "verb" else race.b.do("UPDATE jobs SET status = 'todo' WHERE id = $1", parent),
    )
    await revive.waits()
    await race.a.commit()
    await revive.done()
    await race.assert_sound()
    assert await race.statuses(parent, child) == ["todo", "blocked"]
    await race.settled()


async def test_a_revival_waits_for_an_open_deferral_under_a_dependent(race: Race) -> None:
    [parent] = await race.running()
    [child] = await race.deferred(job(parent, run_when=STRICT_CHILD))
    assert await race.a.finish({parent: "failed"}) == {}
    await race.a.begin()
    [grandchild] = await race.a.defer(job(child))
    revive = race.start(race.b, race.b.retry(parent))
    await revive.waits()
    await race.a.commit()
    await revive.done()
    await race.assert_sound()
    assert await race.statuses(child, grandchild) == ["blocked", "blocked"]
    await race.settled()


async def test_a_job_is_revived_while_its_parent_ends(race: Race) -> None:
    """It is blocked anew only if that parent is live: its end will not look at a child that is not blocked."""
    [parent] = await race.running()
    [child] = await race.deferred(job(parent))
    assert await race.a.finish({parent: "succeeded"}) == {}
    assert await race.a.fetch() == [child]
    assert await race.a.finish({child: "failed"}) == {}
    await race.a.retry(parent)
    assert await race.a.fetch() == [parent]
    assert await race.statuses(child) == ["failed"]
    await race.a.begin()
    assert await race.a.finish({parent: "succeeded"}) == {}
    revive = race.start(race.b, race.b.retry(child))
    await revive.waits()
    await race.a.commit()
    await revive.done()
    await race.settled()


async def test_a_revival_and_a_cascade_meet_at_shared_children(race: Race) -> None:
    """The revival locks the live parent before the children, as the cascade does, so that it has none when it waits."""
    revived, live = await race.running(2)
    children = await race.deferred(*[job(revived, live)] * 2)
    assert await race.a.finish({revived: "failed"}) == {}
    await race.c.hold(children[0])
    end = race.start(race.a, race.a.finish({live: "succeeded"}))
    await end.waits()
    revive = race.start(race.b, race.b.retry(revived))
    await revive.waits()
    await race.c.commit()
    assert await end.done() == {}
    await revive.done()
    assert await race.statuses(*children) == ["blocked", "blocked"]
    await race.settled()


async def test_a_dependent_is_claimed_while_its_parent_is_revived(race: Race) -> None:
    [parent] = await race.running()
    [child] = await race.deferred(job(parent))
    assert await race.a.finish({parent: "failed"}) == {}
    await race.a.begin()
    assert await race.a.fetch() == [child]
    revive = race.start(race.b, race.b.retry(parent))
    await revive.waits()
    await race.a.commit()
    await revive.done()
    assert await race.statuses(parent, child) == ["todo", "doing"]
    await race.settled()


async def test_a_dependent_is_passed_by_while_its_parent_is_revived(race: Race) -> None:
    [parent] = await race.running()
    [child] = await race.deferred(job(parent))
    assert await race.a.finish({parent: "failed"}) == {}
    await race.a.begin()
    await race.a.retry(parent)
    assert await race.start(race.b, race.b.fetch()).passes() == []
    await race.a.commit()
    assert await race.statuses(parent, child) == ["todo", "blocked"]
    await race.settled()


async def test_a_parent_is_deleted_while_it_is_revived(race: Race) -> None:
    [parent] = await race.running()
    [child] = await race.deferred(job(parent, run_when=STRICT_CHILD))
    assert await race.a.finish({parent: "failed"}) == {}
    await race.a.begin()
    await race.a.retry(parent)
    delete = race.start(race.b, race.b.end(parent, "delete"))
    await delete.waits()
    await race.a.commit()
    await delete.done()
    assert await race.statuses(child) == [ENDED_BY_RULE]
    await race.settled()
