"""docs/semantics.md, section 4.5: retry by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import (
    ALREADY_STARTED,
    ENDED,
    NO_SUCH_JOB,
    RULE_NOT_MET,
    SCHEMA,
    TRANSITION_REFUSED,
    refused,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups


# 5. Retry by hand


@pytest.mark.parametrize("status", ENDED)
async def test_4_5_any_terminal_job_can_be_retried(db: Database, status: str) -> None:
    """It starts as new: no result, error, end or abort request of before; its attempts go on counting."""
    job = await db.defer(priority=1)
    if status == "cancelled":
        await db.cancel(job)
    else:
        await db.start(job)
        await db.cancel(job, abort=True)
        await db.finish({job: status}, results={job: 1}, errors={job: "boom"})
    await db.retry(job)
    row = (await db.rows(f"SELECT * FROM {SCHEMA}.jobs WHERE id = $1", job))[0]
    for column in ("result", "error", "finished_at", "started_at", "cancel_kind", "cancel_reason", "gate"):
        assert row[column] is None, column
    assert (row["status"], row["abort_requested"], row["priority"]) == ("todo", False, 1)
    assert row["attempts"] == (0 if status == "cancelled" else 1)
    await db.end("succeeded", job)


async def test_4_5_a_retry_can_reroute_the_job(db: Database) -> None:
    job = await db.defer(lock="l")
    await db.end("failed", job)
    await db.retry(job, priority=7, queue="other", lock="m")
    row = (await db.rows(f"SELECT priority, queue, lock, scheduled_at FROM {SCHEMA}.jobs WHERE id = $1", job))[0]
    assert tuple(row) == (7, "other", "m", None)
    assert await db.fetch(1, ["other"]) == [job]


async def test_4_5_retry_of_a_running_job_needs_a_lost_worker(db: Database, other: Database) -> None:
    """While its worker's heartbeat is fresh it is refused; a lost worker's job starts again and its lock is free."""
    job = await db.defer(lock="l")
    child = await db.defer(job)
    await db.start(job)
    with refused(ALREADY_STARTED):
        await other.retry(job)
    await db.lose_worker()
    await other.retry(job)
    assert await db.statuses(job, child) == ["todo", "blocked"]
    assert await other.fetch(1) == [job]


async def test_4_5_a_retry_can_wait_for_its_time(db: Database) -> None:
    """And is in nobody's way until then."""
    job, following = await db.defer(lock="l", priority=9), await db.defer(lock="l")
    await db.end("failed", job)
    await db.execute(f"SELECT {SCHEMA}.retry_job($1, now() + interval '1 h')", job)
    assert (await db.status(job), await db.column(job, "gate")) == ("todo", "scheduled")
    assert await db.fetch(10) == [following]


async def test_4_5_an_automatic_retry_can_reroute_the_job(db: Database) -> None:
    """Its old lock is handed on, and it stands in the line of the new one."""
    job = await db.defer(lock="l")
    running, parked = await db.defer(lock="m", priority=9), await db.defer(lock="l")
    await db.start(job, running)
    assert await db.fetch(10) == []
    retry = {"priority": 7, "queue": "other", "lock": "m"}
    assert await db.finish({job: "todo"}, retries={job: retry}) == {}
    row = (await db.rows(f"SELECT status::text, priority, queue, lock FROM {SCHEMA}.jobs WHERE id = $1", job))[0]
    assert tuple(row) == ("todo", 7, "other", "m")
    assert await db.fetch(10) == [parked]
    await db.finish({running: "succeeded"})
    assert await db.fetch(10) == [job]


@pytest.mark.parametrize("status", ["blocked", "todo"])
async def test_4_5_what_has_not_ended_can_not_be_retried(db: Database, status: str) -> None:
    parent = await db.defer()
    job = parent if status == "todo" else await db.defer(parent)
    with refused(TRANSITION_REFUSED) as refusal:
        await db.retry(job)
    assert f"job {job} can not be retried: it is {status}" in refusal.message


async def test_4_5_retry_of_an_unknown_job(db: Database) -> None:
    with refused(NO_SUCH_JOB) as refusal:
        await db.retry(10**12)
    assert refusal.detail == {"job_id": 10**12}


@pytest.mark.parametrize("by", ["retry_job", "plain SQL"])
async def test_4_5_retry_resets_dependents_through_all_levels(db: Database, by: str) -> None:
    """What was not claimed goes back to blocked and is decided anew; with the parent's new end it runs.

    Argo #10425, Hatchet #507: a retried step does not re-arm what comes after it.
    """
    root = await db.defer()
    cancelled = await db.defer(root, rule="all_succeeded")
    below = await db.defer(cancelled, rule="all_succeeded")
    handler = await db.defer(root, rule="any_failed")
    below_handler = await db.defer(handler)
    last = await db.defer(below, handler)
    jobs = [cancelled, below, handler, below_handler, last]
    await db.end("failed", root)
    assert await db.statuses(*jobs) == ["cancelled upstream", "cancelled upstream", "todo", "blocked", "blocked"]
    if by == "retry_job":
        await db.retry(root)
    else:
        await db.set_status("todo", root)
    assert await db.statuses(root, *jobs) == ["todo", *["blocked"] * 5]
    assert await db.column(below, "cancel_reason") is None
    assert await db.column(below, "finished_at") is None
    await db.end("succeeded", root)
    assert await db.statuses(*jobs) == ["todo", "blocked", "cancelled not_needed", "todo", "blocked"]
    await db.end("succeeded", cancelled)
    await db.end("succeeded", below)
    assert await db.status(last) == "todo"


async def test_4_5_retry_resets_a_chain_of_two_thousand(db: Database) -> None:
    ids = await db.defer_batch({}, *({"after": [n], "run_when": "all_succeeded"} for n in range(2_000)))
    await db.end("failed", ids[0])
    await db.retry(ids[0])
    assert set(await db.statuses(*ids[1:])) == {"blocked"}
    await db.end("failed", ids[0])
    assert set(await db.statuses(*ids[1:])) == {"cancelled upstream"}


async def test_4_5_retry_joins_levels_of_different_length(db: Database) -> None:
    """A job that hangs from the retried one both directly and through others that were cancelled."""
    root = await db.defer()
    middle = await db.defer(root, rule="all_succeeded")
    join = await db.defer(root, middle)
    lower = await db.defer(join, middle, rule="any_succeeded")
    await db.end("failed", root)
    assert await db.statuses(middle, join, lower) == ["cancelled upstream", "todo", "blocked"]
    await db.retry(root)
    assert await db.statuses(middle, join, lower) == ["blocked", "blocked", "blocked"]
    await db.end("succeeded", root)
    assert await db.statuses(middle, join, lower) == ["todo", "blocked", "blocked"]
    await db.end("succeeded", middle)
    await db.end("failed", join)
    assert await db.status(lower) == "todo"


async def test_4_5_a_reset_dependent_is_decided_from_all_parents_present_ends(db: Database) -> None:
    """So that it may be cancelled again for another parent."""
    first, second = await db.defer_batch({}, {})
    child = await db.defer(first, second, rule="all_succeeded")
    await db.end("failed", first, second)
    await db.retry(first)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", first)
    assert await db.status(child) == "cancelled upstream"
    assert await db.column(child, "cancel_reason") == f"all_succeeded: parent {second} failed"


async def test_4_5_a_dependent_blocked_for_another_parent_waits_for_both(db: Database) -> None:
    first, second = await db.defer_batch({}, {})
    child = await db.defer(first, second)
    await db.end("failed", first)
    await db.retry(first)
    await db.end("succeeded", second)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", first)
    assert await db.status(child) == "todo"


@pytest.mark.parametrize("stays", ["claimed", "between two attempts", "rescued", "cancelled by hand", *ENDED[:3]])
@pytest.mark.parametrize("by", ["retry_job", "plain SQL"])
async def test_4_5_what_was_claimed_or_ended_or_cancelled_by_hand_stays(db: Database, by: str, stays: str) -> None:
    parent = await db.defer()
    child = await db.defer(parent)
    grandchild = await db.defer(child)
    await db.end("failed", parent)
    match stays:
        case "cancelled by hand":
            await db.cancel(child)
        case "claimed":
            await db.start(child)
        case "between two attempts":
            await db.start(child)
            await db.finish({child: "todo"})
        case "rescued":
            await db.start(child)
            await db.lose_worker()
            assert await db.rescue() == {child: "todo"}
            db.worker = await db.register_worker()
        case _:
            await db.end(stays, child)
    before = await db.statuses(child, grandchild)
    if by == "retry_job":
        await db.retry(parent)
    else:
        await db.set_status("todo", parent)
    assert await db.statuses(parent, child, grandchild) == ["todo", *before]


async def test_4_5_a_revived_dependent_counts_as_not_claimed_again(db: Database) -> None:
    """Not claimed since it was last revived: a job that ran, was retried by hand and has not started goes back."""
    parent = await db.defer()
    child = await db.defer(parent)
    await db.end("failed", parent)
    await db.end("failed", child)
    await db.retry(child)
    assert await db.status(child) == "todo"
    await db.retry(parent)
    assert await db.status(child) == "blocked"


@pytest.mark.parametrize("then", ["succeeded", "failed"])
async def test_4_5_without_reset_all_dependents_stay(db: Database, then: str) -> None:
    """reset_dependents=False: nothing that hangs from the job changes, whatever its state."""
    parent, live = await db.defer_batch({}, {})
    runnable = await db.defer(parent)
    running = await db.defer(parent)
    cancelled = await db.defer(parent, rule="all_succeeded")
    by_hand = await db.defer(parent)
    below = await db.defer(cancelled, rule="any_failed")
    await db.end("failed", parent)
    await db.start(running)
    await db.cancel(by_hand)
    jobs = [runnable, running, cancelled, by_hand, below]
    before = await db.statuses(*jobs)
    await db.retry(parent, reset_dependents=False)
    assert await db.status(parent) == "todo"
    assert await db.statuses(*jobs) == before
    assert await db.violations() == []
    await db.end(then, parent)
    assert await db.statuses(*jobs) == before
    assert await db.status(live) == "todo"


async def test_4_5_without_reset_a_dependent_that_is_still_blocked_is_neither_early_nor_stuck(db: Database) -> None:
    """A child that waits for another parent stays blocked; it runs when all its parents are terminal."""
    retried, live = await db.defer_batch({}, {})
    child = await db.defer(retried, live)
    await db.end("failed", retried)
    await db.retry(retried, reset_dependents=False)
    assert await db.violations() == []
    await db.end("succeeded", retried)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", live)
    assert await db.status(child) == "todo"


async def test_4_5_without_reset_the_other_parents_end_first(db: Database) -> None:
    """The same, the other way round: a child of a live job does not run, though the job was retried without reset."""
    retried, live = await db.defer_batch({}, {})
    child = await db.defer(retried, live)
    await db.end("failed", retried)
    await db.retry(retried, reset_dependents=False)
    await db.end("succeeded", live)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", retried)
    assert await db.status(child) == "todo"


async def test_4_5_reset_gives_up_the_place_in_a_locks_line(db: Database) -> None:
    """A dependent that goes back to blocked is in nobody's way, though it was first in line."""
    parent = await db.defer()
    await db.defer(parent, lock="l", priority=9)
    await db.end("succeeded", parent)
    following = await db.defer(lock="l", queue="following")
    await db.retry(parent)
    assert await db.fetch(10, ["following"]) == [following]


@pytest.mark.parametrize("by", ["retry_job", "plain SQL"])
async def test_4_5_a_job_whose_own_rule_can_not_be_met_is_refused(db: Database, by: str) -> None:
    """Naming the parents; nothing changes."""
    failed, succeeded = await db.defer_batch({}, {})
    child = await db.defer(failed, succeeded, rule="all_succeeded")
    await db.end("failed", failed)
    await db.end("succeeded", succeeded)
    before = await db.snapshot()
    with refused(RULE_NOT_MET) as refusal:
        if by == "retry_job":
            await db.retry(child)
        else:
            await db.set_status("todo", child)
    assert refusal.detail == {"job_id": child, "parents": {str(failed): "failed", str(succeeded): "succeeded"}}
    assert f"parent {failed} failed" in refusal.message
    assert await db.snapshot() == before


@pytest.mark.parametrize("by", ["retry_job", "plain SQL"])
async def test_4_5_a_retried_job_with_a_live_parent_becomes_blocked(db: Database, by: str) -> None:
    parent = await db.defer()
    child = await db.defer(parent)
    await db.end("succeeded", parent)
    await db.end("failed", child)
    await db.retry(parent)
    assert await db.status(child) == "failed"
    if by == "retry_job":
        await db.retry(child)
    else:
        await db.set_status("todo", child)
    assert await db.status(child) == "blocked"
    await db.end("failed", parent)
    assert await db.status(child) == "todo"


async def test_4_5_ignore_dependencies_runs_it_anyway(db: Database) -> None:
    """A job whose rule is not met, and one that is still blocked; what their parents do then changes nothing."""
    failed, live = await db.defer_batch({}, {})
    cancelled = await db.defer(failed, rule="all_succeeded")
    blocked = await db.defer(live, rule="all_succeeded")
    below = await db.defer(blocked)
    await db.end("failed", failed)
    await db.retry(cancelled, ignore_dependencies=True)
    await db.retry(blocked, ignore_dependencies=True)
    assert await db.statuses(cancelled, blocked, below) == ["todo", "todo", "blocked"]
    assert await db.violations() == []
    await db.end("failed", live)
    assert await db.statuses(cancelled, blocked) == ["todo", "todo"]
    await db.end("succeeded", cancelled, blocked)
    assert await db.status(below) == "todo"


async def test_4_5_ignore_dependencies_wakes_a_worker(db: Database, wakeups: Wakeups) -> None:
    parent = await db.defer()
    child = await db.defer(parent, queue="child")
    await wakeups.heard()
    await db.retry(child, ignore_dependencies=True)
    assert await wakeups.queues() == ["child"]
    assert await db.fetch(1, ["child"]) == [child]


async def test_4_5_retry_again_and_again(db: Database) -> None:
    """Each retry arms the same dependents anew; each attempt has its own outcome."""
    parent = await db.defer()
    child = await db.defer(parent, rule="all_succeeded")
    handler = await db.defer(parent, rule="any_failed")
    for status, childs, handlers in [
        ("failed", "cancelled upstream", "todo"),
        ("succeeded", "todo", "cancelled not_needed"),
        ("aborted", "cancelled upstream", "todo"),
    ]:
        await db.end(status, parent)
        assert await db.statuses(child, handler) == [childs, handlers]
        await db.retry(parent)
    assert await db.column(parent, "attempts") == 3
    assert await db.event_types(parent) == ["retried"] * 3
