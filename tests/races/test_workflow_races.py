"""Workflows: growth, cancelling, retrying, deleting and folding, met by each other half way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.races.sessions import DEADLINE_S, QUERIES, job
from tests.races.workflow_sessions import (
    ALREADY_STARTED,
    COUNTS,
    CYCLE,
    NAME_TAKEN,
    NO_SUCH_WORKFLOW,
    WAS_CANCELLED,
    announcements,
    cancel,
    delete,
    fold,
    graph,
    grow,
    retry,
    running_graph,
    state,
)

if TYPE_CHECKING:
    from tests.races.sessions import Race, Session


# Cancelling


async def test_a_cancel_waits_for_an_open_growth_and_takes_it_along(race: Race) -> None:
    workflow, [first] = await graph(race.eye, job())
    await race.a.begin()
    new = await grow(race.a, workflow)
    cancelling = race.start(race.b, cancel(race.b, workflow))
    await cancelling.waits()
    await race.a.commit()
    assert await cancelling.done() == (2, 0), "a job of a cancelled workflow was missed"
    assert await race.statuses(first, new) == ["cancelled:manual"] * 2
    await race.settled()


async def test_a_growth_waits_for_an_open_cancel_and_is_refused(race: Race) -> None:
    workflow, _ = await graph(race.eye, job())
    await race.a.begin()
    await cancel(race.a, workflow)
    growth = race.start(race.b, grow(race.b, workflow))
    await growth.waits()
    await race.a.commit()
    assert await growth.refused() == WAS_CANCELLED, "a cancelled workflow took a job"
    await race.settled()


async def test_a_cancel_waits_for_an_open_fetch_and_asks_to_abort(race: Race) -> None:
    workflow, [claimed, child] = await graph(race.eye, job(), job(after=[0]))
    await race.a.begin()
    assert await race.a.fetch() == [claimed]
    cancelling = race.start(race.b, cancel(race.b, workflow))
    await cancelling.waits()
    await race.a.commit()
    assert await cancelling.done() == (1, 1)
    assert await race.statuses(claimed, child) == ["doing", "cancelled:manual"], "a running job was cancelled"
    assert await race.eye.finish({claimed: "todo"}) == {}
    assert await race.statuses(claimed) == ["aborted"]
    await race.settled()


async def test_a_fetch_passes_by_what_an_open_cancel_holds(race: Race) -> None:
    workflow, [one] = await graph(race.eye, job())
    await race.a.begin()
    await cancel(race.a, workflow)
    assert await race.start(race.b, race.b.fetch()).passes() == []
    await race.a.rollback()
    assert await race.b.fetch() == [one]
    await race.settled()


@pytest.mark.parametrize("abort", [True, False])
async def test_a_job_is_put_back_for_another_attempt_while_its_workflow_is_cancelled(race: Race, abort: bool) -> None:
    workflow, [one] = await running_graph(race, job())
    await race.a.begin()
    assert await race.a.finish({one: "todo"}) == {}
    cancelling = race.start(race.b, cancel(race.b, workflow, abort=abort))
    if abort:
        await cancelling.waits()
    await race.a.commit()
    await cancelling.done()
    if abort:
        assert await race.statuses(one) == ["cancelled:manual"], "a job of a cancelled workflow runs again"
    await race.settled()


async def test_a_cancel_waits_for_an_open_end_that_releases_a_child(race: Race) -> None:
    workflow, [parent, child] = await running_graph(race, job(), job(after=[0]))
    await race.a.begin()
    assert await race.a.finish({parent: "succeeded"}) == {}
    cancelling = race.start(race.b, cancel(race.b, workflow))
    await cancelling.waits()
    await race.a.commit()
    assert await cancelling.done() == (1, 0)
    assert await race.statuses(parent, child) == ["succeeded", "cancelled:manual"]
    assert await state(race, workflow) == "cancelled"
    await race.settled()


async def test_an_end_waits_for_an_open_cancel_of_its_child(race: Race) -> None:
    workflow, [parent, child] = await running_graph(race, job(), job(after=[0]))
    [outside] = await race.deferred(job(child, run_when="all_succeeded"))
    await race.a.begin()
    assert await cancel(race.a, workflow, abort=False) == (1, 0)
    end = race.start(race.b, race.b.finish({parent: "succeeded"}))
    await end.waits()
    await race.a.commit()
    assert await end.done() == {}
    assert await race.statuses(parent, child, outside) == ["succeeded", "cancelled:manual", "cancelled:upstream"]
    await race.settled()


# Retrying


async def test_a_retry_meets_an_open_end_that_cancels_a_dependent(race: Race) -> None:
    workflow, [failed, other, child] = await running_graph(
        race, job(), job(), job(after=[0, 1], run_when="all_succeeded")
    )
    assert await race.eye.finish({failed: "failed"}) == {}
    await race.a.begin()
    assert await race.a.finish({other: "failed"}) == {}
    retrying = race.start(race.b, retry(race.b, workflow))
    await retrying.waits()
    await race.a.commit()
    assert await retrying.done() == 1
    assert await race.statuses(failed, other, child) == ["todo", "failed", "blocked"]
    await race.settled()


async def test_an_end_meets_an_open_retry_of_its_childs_other_parent(race: Race) -> None:
    workflow, [failed, other, child] = await running_graph(
        race, job(), job(), job(after=[0, 1], run_when="all_succeeded")
    )
    assert await race.eye.finish({failed: "failed"}) == {}
    await race.a.begin()
    assert await retry(race.a, workflow) == 1
    end = race.start(race.b, race.b.finish({other: "succeeded"}))
    await race.a.commit()
    # while the retry holds the parents of what it blocks they are busy
    if await end.done():
        assert await race.b.finish({other: "succeeded"}) == {}
    assert await race.statuses(failed, other, child) == ["todo", "succeeded", "blocked"]
    await race.settled()


async def test_a_growth_waits_for_an_open_retry(race: Race) -> None:
    workflow, [one] = await running_graph(race, job())
    assert await race.eye.finish({one: "failed"}) == {}
    await race.a.begin()
    assert await retry(race.a, workflow) == 1
    growth = race.start(race.b, grow(race.b, workflow, one))
    await growth.waits()
    await race.a.commit()
    assert await race.statuses(await growth.done()) == ["blocked"]
    await race.settled()


# Deleting


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_a_delete_waits_for_an_open_growth_and_takes_it_along(race: Race, way: str) -> None:
    workflow, [first] = await graph(race.eye, job())
    await race.a.begin()
    new = await grow(race.a, workflow, first)
    deleting = race.start(race.b, delete(race.b, workflow, way))
    await deleting.waits()
    await race.a.commit()
    await deleting.done()
    assert await race.statuses(first, new) == [None, None]
    assert await race.eye.do("SELECT FROM workflow_deltas") == []
    await race.settled()


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_a_growth_waits_for_an_open_delete_and_is_refused(race: Race, way: str) -> None:
    workflow, _ = await graph(race.eye, job())
    await race.a.begin()
    await delete(race.a, workflow, way)
    growth = race.start(race.b, grow(race.b, workflow))
    await growth.waits()
    await race.a.commit()
    assert await growth.refused() == NO_SUCH_WORKFLOW
    await race.settled()


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_an_insert_by_hand_waits_for_an_open_delete_and_is_refused(race: Race, way: str) -> None:
    workflow, _ = await graph(race.eye, job())
    await race.a.begin()
    await delete(race.a, workflow, way)
    insert = race.start(race.b, race.b.do("INSERT INTO jobs (task_name, workflow_id) VALUES ('task', $1)", workflow))
    await insert.waits()
    await race.a.commit()
    assert await insert.refused() == NO_SUCH_WORKFLOW
    await race.settled()


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_who_depends_on_the_whole_waits_for_an_open_delete_and_is_refused(race: Race, way: str) -> None:
    workflow, _ = await graph(race.eye, job())
    await race.a.begin()
    await delete(race.a, workflow, way)
    deferral = race.start(race.b, race.b.defer(job(depends_on_workflows=[workflow])))
    await deferral.waits()
    await race.a.commit()
    assert await deferral.refused() == NO_SUCH_WORKFLOW
    await race.settled()


async def test_a_prune_passes_by_a_workflow_of_which_a_job_is_held(race: Race) -> None:
    """By who retries it, or makes it a parent: the others are not deleted without it."""
    child = "jsonb_build_object('task_name', 'race', 'depends_on', jsonb_build_array($1::bigint))"
    for act in ("retry_job($1)", f"defer_jobs(jsonb_build_array({child}))"):
        workflow, jobs = await running_graph(race, job(), job(), job())
        assert await race.eye.finish(dict.fromkeys(jobs, "succeeded")) == {}
        await race.eye.do("SELECT fold_workflows()")
        await race.a.begin()
        await race.a.do(f"SELECT {act}", jobs[-1])
        assert (await race.eye.do("SELECT * FROM prune_jobs('0 s'::interval)"))[0][0] == 0, "pruned in part"
        await race.a.commit()
        assert await race.eye.value("SELECT count(*) FROM jobs WHERE workflow_id = $1", workflow) == 3, "pruned in part"
    await race.settled()


async def test_a_unique_workflow_that_ended_in_the_transaction_waited_for_lets_its_name_go(race: Race) -> None:
    await race.a.begin()
    _, [ends] = await graph(race.a, job(), unique=True)
    second = race.start(race.b, graph(race.b, job(), unique=True))
    await second.waits()
    await race.a.do("UPDATE jobs SET status = 'cancelled' WHERE id = $1", ends)
    await race.a.commit()
    await second.done()
    await race.settled()


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_a_delete_waits_for_an_open_end_and_leaves_no_change_behind(race: Race, way: str) -> None:
    workflow, [one, child] = await running_graph(race, job(), job(after=[0]))
    [outside] = await race.deferred(job(child, run_when="none_failed"))
    await race.a.begin()
    assert await race.a.finish({one: "succeeded"}) == {}
    deleting = race.start(race.b, delete(race.b, workflow, way))
    await deleting.waits()
    await race.a.commit()
    await deleting.done()
    assert await race.statuses(one, child, outside) == [None, None, "todo"]
    await race.settled()


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_a_delete_waits_for_an_open_fold(race: Race, way: str) -> None:
    workflow, [one] = await running_graph(race, job())
    assert await race.eye.finish({one: "succeeded"}) == {}
    await race.a.begin()
    await fold(race.a)
    deleting = race.start(race.b, delete(race.b, workflow, way))
    await deleting.waits()
    await race.a.commit()
    await deleting.done()
    await race.settled()


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_a_fold_passes_by_an_open_delete(race: Race, way: str) -> None:
    workflow, [one] = await running_graph(race, job())
    assert await race.eye.finish({one: "succeeded"}) == {}
    await race.a.begin()
    await delete(race.a, workflow, way)
    await race.start(race.b, fold(race.b)).passes()
    await race.a.commit()
    assert await race.eye.do("SELECT FROM workflow_deltas") == []
    await race.settled()


# Folding


async def test_no_end_waits_for_an_open_fold(race: Race) -> None:
    workflow, [one, two, child] = await running_graph(race, job(), job(), job(after=[0, 1]))
    assert await race.eye.finish({one: "succeeded"}) == {}
    await race.a.begin()
    await fold(race.a, workflow)
    assert await race.start(race.b, race.b.finish({two: "failed"})).passes() == {}
    assert await race.start(race.b, race.b.fetch()).passes() == [child]
    assert await race.start(race.b, race.b.exchange({child: "succeeded"})).passes() == ([], False)
    assert await state(race, workflow) == "failed"
    await race.a.commit()
    await race.settled()


async def test_two_folds_at_once(race: Race) -> None:
    workflow, [one, two] = await running_graph(race, job(), job())
    assert await race.eye.finish({one: "succeeded"}) == {}
    async with announcements(race) as ended:
        await race.a.begin()
        assert await fold(race.a) is False
        assert await race.eye.finish({two: "succeeded"}) == {}
        assert await race.start(race.b, fold(race.b)).passes() is True, "who was passed by is asked to come again"
        await race.a.commit()
        assert await ended.heard() == []
        assert await fold(race.b) is False
        assert await ended.heard() == [(workflow, "succeeded")]
    await race.settled()


@pytest.mark.parametrize("first", ["one", "two"])
async def test_the_last_two_end_at_the_same_moment(race: Race, first: str) -> None:
    """Each transaction sees the other's job live; the end of the workflow is announced once, and not early."""
    workflow, [one, two] = await running_graph(race, job(), job())
    async with announcements(race) as ended:
        for session, id_ in ((race.a, one), (race.b, two)):
            await session.begin()
            assert await session.finish({id_: "succeeded"}) == {}
            await fold(session)
        first_one, other = (race.a, race.b) if first == "one" else (race.b, race.a)
        await first_one.commit()
        await fold(race.c)
        assert await ended.heard() == [], "it was announced before its last job had ended"
        await other.commit()
        await race.together((race.a, fold(race.a)), (race.b, fold(race.b)))
        await fold(race.c)
        assert await ended.heard() == [(workflow, "succeeded")]
        await fold(race.c)
        assert await ended.heard() == []
    await race.settled()


async def test_growth_before_the_last_end_keeps_a_workflow_running(race: Race) -> None:
    workflow, [one] = await running_graph(race, job())
    async with announcements(race) as ended:
        await race.a.begin()
        await race.a.finish({one: "succeeded"})
        new = await grow(race.b, workflow)
        await race.a.commit()
        await fold(race.c)
        assert await ended.heard() == [], "a job that had been added was missed"
        assert await state(race, workflow) == "running"
        assert await race.eye.fetch() == [new]
        assert await race.eye.finish({new: "failed"}) == {}
        await fold(race.c)
        assert await ended.heard() == [(workflow, "failed")]
    await race.settled()


async def test_a_workflow_that_has_ended_may_grow_and_end_again(race: Race) -> None:
    workflow, [one] = await running_graph(race, job())
    async with announcements(race) as ended:
        await race.a.begin()
        new = await grow(race.a, workflow)
        assert await race.b.finish({one: "succeeded"}) == {}
        await race.start(race.c, fold(race.c)).passes()
        assert await ended.heard() == [(workflow, "succeeded")]
        await race.a.commit()
        await fold(race.c)
        assert await state(race, workflow) == "running"
        assert await race.eye.value("SELECT finished_at IS NULL FROM workflows") is True
        assert await race.eye.fetch() == [new]
        assert await race.eye.finish({new: "succeeded"}) == {}
        await fold(race.c)
        assert await ended.heard() == [(workflow, "succeeded")]
    await race.settled()


async def test_counts_are_exact_at_any_moment(race: Race) -> None:
    """Read as the library reads them, and counted, in one snapshot, while two sessions change jobs and one folds."""
    jobs = [job(after=[place - 1] if place % 3 else [], run_when="all_succeeded") for place in range(90)]
    workflow, ids = await graph(race.eye, *jobs)
    over = anyio.Event()
    reads = 0

    async def work(session: Session, kind: int) -> None:
        while not over.is_set():
            claimed = await session.fetch(4)
            if not claimed:
                break
            await session.finish({id_: "failed" if (id_ + kind) % 5 == 0 else "succeeded" for id_ in claimed})

    async def keep_folding() -> None:
        while not over.is_set():
            await fold(race.c)

    attempts = [race.start(race.a, work(race.a, 0)), race.start(race.b, work(race.b, 1))]
    folding = race.start(race.c, keep_folding())
    with anyio.fail_after(DEADLINE_S):
        while not all(attempt.over.is_set() for attempt in attempts):
            await race.eye.begin("REPEATABLE READ")
            [read] = await race.eye.do(QUERIES["get_workflow"], workflow)
            counted = {
                row["status"]: row["count"]
                for row in await race.eye.do(
                    "SELECT concat(status, cancel_kind) AS status, count(*) FROM jobs GROUP BY 1"
                )
            }
            await race.eye.commit()
            reads += 1
            assert read["total"] == len(ids)
            for name, status in {"upstream": "cancelledupstream", **{n: n for n in COUNTS.split(", ")[1:5]}}.items():
                assert read[name] == counted.get(status, 0), f"{name} after {reads} reads: {dict(read)}, {counted}"
            assert read["doing"] == counted.get("doing", 0)
    over.set()
    await folding.done()
    assert reads > 3
    for attempt in attempts:
        await attempt.done()
    await race.settled()


# Names


@pytest.mark.parametrize("commit", [True, False])
async def test_two_unique_workflows_of_one_name_at_once(race: Race, commit: bool) -> None:
    await race.a.begin()
    one, _ = await graph(race.a, job(), unique=True)
    other = race.start(race.b, graph(race.b, job(), unique=True))
    await other.waits()
    await (race.a.commit() if commit else race.a.rollback())
    assert await other.refused() == (NAME_TAKEN if commit else ""), "two live workflows have one name"
    assert await race.eye.value("SELECT count(*) FROM workflows WHERE holds_name") == 1
    assert await race.eye.value("SELECT count(*) FROM workflows WHERE id = $1", one) == int(commit)
    await race.settled()


async def test_a_unique_workflow_that_is_just_ending_lets_its_name_go(race: Race) -> None:
    """Its end is committed and not folded: who wants the name folds it, after whoever is at it."""
    _, [one] = await running_graph(race, job(), unique=True)
    assert await race.eye.finish({one: "succeeded"}) == {}
    await race.a.begin()
    await fold(race.a)
    other = race.start(race.b, graph(race.b, job(), unique=True))
    await other.waits()
    await race.a.rollback()
    assert await other.refused() == ""
    await race.settled()


async def test_a_growing_unique_workflow_keeps_its_name(race: Race) -> None:
    workflow, [one] = await running_graph(race, job(), unique=True)
    assert await race.eye.finish({one: "succeeded"}) == {}
    await race.a.begin()
    await grow(race.a, workflow)
    race.step(await race.start(race.b, fold(race.b)).passes() is True, "the fold is to come again")
    await race.a.commit()
    await fold(race.b)
    await race.assert_sound()
    assert await race.start(race.b, graph(race.b, job(), unique=True)).refused() == NAME_TAKEN
    await race.settled()


# Waiting for the whole of a workflow, and for new jobs


async def test_a_growth_waits_for_an_open_deferral_that_depends_on_the_whole(race: Race) -> None:
    workflow, [first] = await graph(race.eye, job())
    await race.a.begin()
    [child] = await race.a.defer(job(depends_on_workflows=[workflow]))
    growth = race.start(race.b, grow(race.b, workflow))
    await growth.waits()
    await race.a.commit()
    new = await growth.done()
    await race.assert_sound()
    parents = await race.eye.do("SELECT parent_id FROM job_dependencies WHERE child_id = $1 ORDER BY 1", child)
    assert [row["parent_id"] for row in parents] == [first, new]
    await race.settled()


async def test_a_deferral_that_depends_on_the_whole_waits_for_an_open_growth(race: Race) -> None:
    workflow, [first] = await graph(race.eye, job())
    await race.a.begin()
    new = await grow(race.a, workflow)
    deferral = race.start(race.b, race.b.defer(job(depends_on_workflows=[workflow])))
    await deferral.waits()
    await race.a.commit()
    [child] = await deferral.done()
    await race.assert_sound()
    parents = await race.eye.do("SELECT parent_id FROM job_dependencies WHERE child_id = $1 ORDER BY 1", child)
    assert [row["parent_id"] for row in parents] == [first, new]
    await race.settled()


async def test_a_new_parent_waits_for_an_open_claim_of_its_child(race: Race) -> None:
    [child] = await race.deferred(job())
    await race.a.begin()
    assert await race.a.fetch() == [child]
    growth = race.start(race.b, race.b.defer(job(before=[child])))
    await growth.waits()
    await race.a.commit()
    assert await growth.refused() == ALREADY_STARTED, "a running job was blocked"
    await race.settled()


async def test_an_end_waits_for_an_open_deferral_that_its_child_waits_for_too(race: Race) -> None:
    workflow, [one, join] = await running_graph(race, job(), job(after=[0]))
    await race.a.begin()
    new = await grow(race.a, workflow, before=[join])
    end = race.start(race.b, race.b.finish({one: "succeeded"}))
    await end.waits()
    await race.a.commit()
    assert await end.done() == {}
    assert await race.statuses(join, new) == ["blocked", "todo"]
    await race.settled()


async def test_a_growth_and_an_edge_that_close_a_cycle_together(race: Race) -> None:
    above, below = await race.deferred(job(), job())
    await race.a.begin()
    await race.a.defer(job(above, before=[below]))
    edge = race.start(race.b, race.b.do("SELECT add_dependencies($1, $2)", above, [below]))
    await edge.waits()
    await race.a.commit()
    refused = await edge.refused()
    await race.settled()
    assert refused == CYCLE
