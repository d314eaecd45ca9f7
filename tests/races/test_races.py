"""Ends, deferrals and cascades, met by each other half way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.races.sessions import (
    DEADLOCK,
    ENDED_BY_RULE,
    JOBS,
    LOCK_TIMEOUT,
    MISSING_PARENT,
    STRICT_CHILD,
    WAYS,
    WRONG_ISOLATION,
    endable,
    job,
    pairs,
)

if TYPE_CHECKING:
    from tests.races.sessions import Race


# A child is deferred while its parent ends


@pytest.mark.parametrize("way", ["update", "cancel", "delete"])
async def test_an_end_waits_for_an_open_deferral_of_a_child(race: Race, way: str) -> None:
    [parent] = await endable(race, way)
    await race.a.begin()
    children = await race.a.defer(job(parent), job(parent, run_when=STRICT_CHILD))
    end = race.start(race.b, race.b.end(parent, way))
    await end.waits()
    await race.a.commit()
    await end.done()
    assert await race.statuses(*children) == ["todo", ENDED_BY_RULE]
    await race.settled()


async def test_finish_is_busy_during_an_open_deferral_of_a_child(race: Race) -> None:
    parent, other = await race.running(2)
    await race.a.begin()
    children = await race.a.defer(job(parent), job(parent, run_when=STRICT_CHILD))
    refused = await race.start(race.b, race.b.finish({parent: "failed", other: "succeeded"})).passes()
    race.step(refused == {parent: "busy"}, f"the parent is busy, not {refused}")
    assert await race.statuses(other) == ["succeeded"]
    await race.a.commit()
    assert await race.b.finish(dict.fromkeys(refused, "failed")) == {}
    assert await race.statuses(*children) == ["todo", ENDED_BY_RULE]
    await race.settled()


@pytest.mark.parametrize("way", WAYS)
async def test_a_deferral_waits_for_an_open_end_of_its_parent(race: Race, way: str) -> None:
    [parent] = await endable(race, way)
    await race.a.begin()
    await race.a.end(parent, way)
    deferral = race.start(race.b, race.b.defer(job(parent), job(parent, run_when=STRICT_CHILD)))
    await deferral.waits()
    await race.a.commit()
    if way == "delete":
        assert await deferral.refused() == MISSING_PARENT
    else:
        assert await race.statuses(*await deferral.done()) == ["todo", ENDED_BY_RULE]
    await race.settled()


@pytest.mark.parametrize("way", WAYS)
async def test_a_deferral_sees_that_its_parents_end_was_taken_back(race: Race, way: str) -> None:
    [parent] = await endable(race, way)
    await race.a.begin()
    await race.a.end(parent, way)
    deferral = race.start(race.b, race.b.defer(job(parent), job(parent, run_when=STRICT_CHILD)))
    await deferral.waits()
    await race.a.rollback()
    assert await race.statuses(*await deferral.done()) == ["blocked", "blocked"]
    await race.settled()


# Several parents of one child


@pytest.mark.parametrize(("first", "second"), pairs(WAYS, WAYS))
async def test_two_last_parents_release_their_child_exactly_once(race: Race, first: str, second: str) -> None:
    parents = [*await endable(race, first), *await endable(race, second)]
    [child] = await race.deferred(job(*parents))
    await race.a.begin()
    await race.a.end(parents[0], first)
    end = race.start(race.b, race.b.end(parents[1], second))
    await end.waits()
    assert await race.statuses(child) == ["blocked"]
    await race.a.commit()
    await end.done()
    assert await race.statuses(child) == ["todo"]
    assert await race.eye.fetch() == [child]
    await race.settled()


async def test_shared_children_in_opposite_order(race: Race) -> None:
    """Three children of two parents; who locked them in different orders would meet in the middle."""
    one, other = await race.running(2)
    children = await race.deferred(*[job(one, other)] * 3)
    await race.b.do("SET race.lock_order = '-1'")  # for a knock-out to read
    await race.c.hold(children[1])
    ends = [race.start(race.a, race.a.finish({one: "succeeded"})), race.start(race.b, race.b.finish({other: "failed"}))]
    for end in ends:
        await end.waits()
    await race.c.commit()
    assert [await end.done() for end in ends] == [{}, {}]
    assert await race.statuses(*children) == ["todo"] * 3
    await race.settled()


async def test_batches_with_shared_parents_in_opposite_order(race: Race) -> None:
    parents = await race.running(20)
    children = await race.deferred(*[job(*parents[n : n + 5]) for n in range(16)])
    halves = parents[::2], parents[::-1][::2]
    refusals = await race.together(
        (race.a, race.a.finish(dict.fromkeys(halves[0], "succeeded"))),
        (race.b, race.b.finish(dict.fromkeys(halves[1], "failed"))),
    )
    assert refusals == [{}, {}]
    assert await race.statuses(*children) == ["todo"] * 16
    await race.settled()


# Cascades


async def crossing(race: Race) -> tuple[int, int, list[int]]:
    """A → x, z; B → y; x → y; y → z"""
    one, other = await race.running(2)
    strict: dict[str, Any] = {"run_when": STRICT_CHILD}
    x, y, z = await race.deferred(job(one, **strict), job(other, after=[0], **strict), job(one, after=[1], **strict))
    return one, other, [x, y, z]


@pytest.mark.parametrize(("first", "second"), pairs(["finish", "update", "delete"], ["finish", "update", "delete"]))
async def test_crossing_cascades(race: Race, first: str, second: str) -> None:
    for _ in range(7):
        one, other, children = await crossing(race)
        await race.together((race.a, race.a.end(one, first)), (race.b, race.b.end(other, second)))
        assert await race.statuses(*children) == [ENDED_BY_RULE] * 3
    await race.settled()


@pytest.mark.parametrize(("first", "second"), pairs(["finish", "update", "delete"], ["finish", "update", "delete"]))
async def test_crossing_cascades_held_half_way(race: Race, first: str, second: str) -> None:
    one, other, children = await crossing(race)
    await race.c.begin()
    [grandchild] = await race.c.defer(job(children[0]))
    ends = [race.start(race.a, race.a.end(one, first))]
    await ends[0].waits()
    ends.append(race.start(race.b, race.b.end(other, second)))
    if first != "delete":  # that one has not got as far as y
        await ends[1].waits()
    await race.c.commit()
    for end in ends:
        await end.done()
    assert await race.statuses(*children, grandchild) == [ENDED_BY_RULE] * 3 + ["todo"]
    await race.settled()


@pytest.mark.parametrize(("first", "second"), pairs(["finish", "update"], ["finish", "update", "delete"]))
async def test_cascades_that_reach_each_others_children(race: Race, first: str, second: str) -> None:
    """A → x, z; x → y; B → y, w; w → z: each is to cancel a job whose other parent's child it has locked."""
    one, other = await race.running(2)
    strict: dict[str, Any] = {"run_when": STRICT_CHILD}
    x, w = await race.deferred(job(one, **strict), job(other, **strict))
    y, z = await race.deferred(job(other, x, **strict), job(one, w, **strict))
    await race.c.begin()
    await race.c.defer(job(x))
    ends = [race.start(race.a, race.a.end(one, first))]
    await ends[0].waits()
    ends.append(race.start(race.b, race.b.end(other, second)))
    await ends[1].waits()
    await race.c.commit()
    for end in ends:
        await end.done()
    assert await race.statuses(x, y, z, w) == [ENDED_BY_RULE] * 4
    await race.settled()


async def test_a_delete_that_meets_a_cascade_may_be_a_deadlocks_victim_but_not_for_good(race: Race) -> None:
    """As above, but a DELETE does not look further ahead than its children: one of both may have to be sent again."""
    one, other = await race.running(2)
    strict: dict[str, Any] = {"run_when": STRICT_CHILD}
    x, w = await race.deferred(job(one, **strict), job(other, **strict))
    y, z = await race.deferred(job(other, x, **strict), job(one, w, **strict))
    await race.c.begin()
    await race.c.defer(job(x))
    ends = [
        (race.a, race.start(race.a, race.a.end(one, "delete")), one, "delete"),
        (race.b, race.start(race.b, race.b.end(other, "finish")), other, "finish"),
    ]
    for _, end, *_ in ends:
        await end.waits()
    await race.c.commit()
    for session, end, id_, way in ends:
        refused = await end.refused()
        assert refused in ("", DEADLOCK)
        if refused:
            await session.end(id_, way)
    assert await race.statuses(x, y, z, w) == [ENDED_BY_RULE] * 4
    await race.settled()


@pytest.mark.parametrize("way", ["finish", "update", "delete"])
async def test_a_cascade_waits_for_an_open_deferral_under_a_job_it_cancels(race: Race, way: str) -> None:
    [parent] = await race.running()
    [child] = await race.deferred(job(parent, run_when=STRICT_CHILD))
    await race.a.begin()
    grandchildren = await race.a.defer(job(child), job(child, run_when=STRICT_CHILD))
    end = race.start(race.b, race.b.end(parent, way))
    await end.waits()
    await race.a.commit()
    await end.done()
    assert await race.statuses(child, *grandchildren) == [ENDED_BY_RULE, "todo", ENDED_BY_RULE]
    await race.settled()


async def test_a_cascade_held_by_an_open_deferral_gives_up_and_then_succeeds_one_by_one(race: Race) -> None:
    parent, other = await race.running(2)
    [child] = await race.deferred(job(parent, run_when=STRICT_CHILD))
    await race.a.begin()
    await race.a.defer(job(child))
    batch = race.start(race.b, race.b.finish({parent: "failed", other: "succeeded"}))
    await batch.waits()
    assert await batch.refused(within_s=5) == LOCK_TIMEOUT
    assert await race.statuses(parent, other, child) == ["doing", "doing", "blocked"]
    assert await race.b.finish({other: "succeeded"}) == {}
    alone = race.start(race.b, race.b.finish({parent: "failed"}))
    await alone.waits()
    await race.a.commit()
    assert await alone.done() == {}
    assert await race.statuses(parent, other, child) == ["failed", "succeeded", ENDED_BY_RULE]
    await race.settled()


@pytest.mark.parametrize("way", ["finish", "update", "delete"])
async def test_a_doomed_chain_of_10_000(race: Race, way: str) -> None:
    [head] = await race.running()
    chain = [job(head, run_when=STRICT_CHILD)]
    chain += [job(after=[n], run_when=STRICT_CHILD) for n in range(9_999)]
    await race.deferred(*chain)
    await race.a.end(head, way)
    count = f"SELECT count(*) FROM {JOBS} WHERE status = $1::text::job_status"
    assert await race.eye.value(f"{count} AND cancel_kind = 'upstream'", "cancelled") == 10_000
    await race.assert_sound()
    if way == "update":
        await race.a.retry(head)
        assert await race.eye.value(count, "blocked") == 10_000
        await race.assert_sound()


# Cancel and delete against release


@pytest.mark.parametrize(("how", "rule"), pairs(["update", "cancel", "delete"], ["all_finished", STRICT_CHILD]))
async def test_a_child_is_ended_by_hand_while_its_parent_releases_it(race: Race, how: str, rule: str) -> None:
    [parent] = await race.running()
    [child] = await race.deferred(job(parent, run_when=rule))
    [grandchild] = await race.deferred(job(child))
    await race.a.begin()
    assert await race.a.finish({parent: "succeeded"}) == {}
    by_hand = race.start(race.b, race.b.end(child, how))
    await by_hand.waits()
    await race.a.commit()
    await by_hand.done()
    assert await race.statuses(child, grandchild) == [
        {"update": "failed", "cancel": "cancelled:manual", "delete": None}[how],
        "todo",
    ]
    await race.settled()


@pytest.mark.parametrize(("how", "status"), pairs(["update", "cancel", "delete"], ["succeeded", "failed"]))
async def test_a_parent_ends_while_its_child_is_ended_by_hand(race: Race, how: str, status: str) -> None:
    [parent] = await race.running()
    [child] = await race.deferred(job(parent, run_when=STRICT_CHILD))
    [grandchild] = await race.deferred(job(child))
    await race.a.begin()
    await race.a.end(child, how)
    end = race.start(race.b, race.b.finish({parent: status}))
    await end.waits()
    await race.a.commit()
    assert await end.done() == {}
    assert await race.statuses(child, grandchild) == [
        {"update": "failed", "cancel": "cancelled:manual", "delete": None}[how],
        "todo",
    ]
    await race.settled()


async def test_many_are_cancelled_by_hand_while_one_of_them_is_released(race: Race) -> None:
    """The cancel has written the child's row, has not settled it yet, and waits for another row."""
    [parent] = await race.running()
    child, other = await race.deferred(job(parent), job())
    await race.c.hold(other)
    cancel = race.start(race.a, race.a.do("UPDATE jobs SET status = 'cancelled' WHERE id = ANY ($1)", [child, other]))
    await cancel.waits()
    end = race.start(race.b, race.b.finish({parent: "succeeded"}))
    await end.waits()
    await race.c.commit()
    await cancel.done()
    assert await end.done() == {}
    assert await race.statuses(parent, child, other) == ["succeeded", "cancelled:manual", "cancelled:manual"]
    await race.settled()


# Isolation


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("way", WAYS)
async def test_ends_are_refused_above_read_committed(race: Race, way: str, isolation: str) -> None:
    [parent] = await endable(race, way)
    await race.deferred(job(parent))
    await race.a.begin(isolation)
    attempt = race.start(race.a, race.a.end(parent, way))
    refused = await attempt.refused()
    await race.a.rollback()
    assert refused == WRONG_ISOLATION
    await race.settled()


async def test_an_end_with_an_old_snapshot_would_lose_a_child(race: Race) -> None:
    [parent] = await race.running()
    await race.a.begin("REPEATABLE READ")
    await race.a.do("SELECT count(*) FROM jobs")
    await race.deferred(job(parent))
    end = race.start(race.a, race.a.finish({parent: "succeeded"}))
    refused = await end.refused()
    race.step(refused == WRONG_ISOLATION, "finish_jobs is refused in REPEATABLE READ")
    await (race.a.rollback() if refused else race.a.commit())
    await race.settled()


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_deferring_works_at_every_isolation_level(race: Race, isolation: str) -> None:
    [parent] = await race.running()
    await race.a.begin(isolation)
    children = await race.a.defer(job(parent), job(after=[0]), job())
    await race.a.commit()
    assert await race.statuses(*children) == ["blocked", "blocked", "todo"]
    await race.settled()


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_deferring_over_a_parent_that_ended_since_the_snapshot(race: Race, isolation: str) -> None:
    [parent] = await race.running()
    await race.a.begin(isolation)
    await race.a.do("SELECT count(*) FROM jobs")
    assert await race.b.finish({parent: "failed"}) == {}
    with pytest.raises(asyncpg.SerializationError):
        await race.a.defer(job(parent))
    await race.a.rollback()
    await race.settled()
