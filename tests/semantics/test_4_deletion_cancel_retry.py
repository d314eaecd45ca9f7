"""docs/semantics.md, section 4: deletion, cancellation, abortion, retry, plain SQL, rescue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.semantics.database import (
    ALREADY_STARTED,
    NO_SUCH_JOB,
    RULE_NOT_MET,
    RULES,
    SCHEMA,
    TRANSITION_REFUSED,
    refused,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups

ENDED = ("succeeded", "failed", "aborted", "cancelled")


async def physical_order(db: Database, first: int, second: int) -> None:
    """Makes sure that a scan of the table comes to the first of these jobs before the second."""
    await db.execute("SET enable_indexscan = off")
    await db.execute("SET enable_bitmapscan = off")
    rows = await db.rows(f"SELECT id FROM {SCHEMA}.jobs WHERE id IN ($1, $2)", first, second)
    if [row["id"] for row in rows] != [first, second]:
        # the new version of a row goes to the end of the table
        await db.execute(f"UPDATE {SCHEMA}.jobs SET args = '{{}}' WHERE id = $1", second)
        rows = await db.rows(f"SELECT id FROM {SCHEMA}.jobs WHERE id IN ($1, $2)", first, second)
    assert [row["id"] for row in rows] == [first, second]


async def event_types(db: Database, job: int) -> list[str]:
    rows = await db.rows(f"SELECT type FROM {SCHEMA}.job_events WHERE job_id = $1 ORDER BY id", job)
    return [row["type"] for row in rows]


# 1. Deletion


async def test_4_1_deleting_a_job_deletes_its_edges_and_no_other_job(db: Database) -> None:
    grandparent = await db.defer()
    parent = await db.defer(grandparent)
    child = await db.defer(parent)
    await db.delete(parent)
    assert await db.statuses(grandparent, parent, child) == ["todo", None, "todo"]
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.job_dependencies") == 0


@pytest.mark.parametrize("by", ["plain SQL", "cancel_job", "prune_jobs", "delete_jobs"])
async def test_4_1_a_purge_never_turns_a_failed_parent_into_a_success(db: Database, by: str) -> None:
    """A parent deleted after it ended counts as it ended, however it is deleted and whenever the child is decided.

    Oban #722: the pruner deletes ended parents of a waiting child.
    """
    failed, live = await db.defer_batch({}, {})
    child = await db.defer(failed, live, rule="all_succeeded")
    handler = await db.defer(failed, live, rule="any_failed")
    await db.start(failed)
    await db.finish({failed: "failed"}, delete_jobs="always" if by == "delete_jobs" else "never")
    if by == "plain SQL":
        await db.delete(failed)
    elif by == "cancel_job":
        assert not await db.cancel(failed, delete_job=True)
    elif by == "prune_jobs":
        await db.prune()
    assert await db.statuses(child, handler) == ["blocked", "blocked"]
    await db.end("succeeded", live)
    assert await db.statuses(child, handler) == ["cancelled upstream", "todo"]


@pytest.mark.parametrize("was", ["blocked", "todo", "doing"])
async def test_4_1_a_parent_deleted_live_counts_as_cancelled_by_hand(db: Database, was: str) -> None:
    parent = await db.defer(await db.defer()) if was == "blocked" else await db.defer()
    if was == "doing":
        await db.start(parent)
    children = [await db.defer(parent, rule=rule) for rule in RULES]
    assert await db.status(parent) == was
    await db.delete(parent)
    assert dict(zip(RULES, await db.statuses(*children), strict=True)) == {
        "all_finished": "todo",
        "all_succeeded": "cancelled upstream",
        "any_succeeded": "cancelled upstream",
        "any_failed": "todo",
        "all_failed": "todo",
        "none_failed": "todo",
    }


@pytest.mark.parametrize("first", ["parent", "child"])
@pytest.mark.parametrize("was", ["live", "ended"])
async def test_4_1_parent_and_child_in_one_delete(db: Database, was: str, first: str) -> None:
    """In both physical orders; a grandchild is decided by what is left."""
    parent = await db.defer()
    child = await db.defer(parent)
    grandchild = await db.defer(child, rule="all_succeeded")
    other_child = await db.defer(parent, rule="all_succeeded")
    if was == "ended":
        await db.end("failed", parent)
    await physical_order(db, *((parent, child) if first == "parent" else (child, parent)))
    await db.delete(parent, child)
    assert await db.statuses(parent, child) == [None, None]
    assert await db.statuses(grandchild, other_child) == ["cancelled upstream", "cancelled upstream"]
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.deleted_parents WHERE child_id = $1", child) == 0


@pytest.mark.parametrize("first", ["parent", "child"])
async def test_4_1_many_parents_in_one_delete(db: Database, first: str) -> None:
    """Several parents of one child, some live and some ended, in one DELETE: it is decided once, when all are gone."""
    failed, live, doing = await db.defer_batch({}, {}, {})
    child = await db.defer(failed, live, doing, rule="any_failed")
    both = await db.defer(failed, live, doing, child, rule="all_finished")
    succeeded = await db.defer()
    needs = await db.defer(succeeded, live, rule="all_succeeded")
    await db.end("failed", failed)
    await db.end("succeeded", succeeded)
    await db.start(doing)
    await physical_order(db, *((live, failed) if first == "parent" else (failed, live)))
    await db.delete(failed, live, doing, succeeded)
    assert await db.statuses(child, both, needs) == ["todo", "blocked", "cancelled upstream"]
    assert await db.parent_statuses(child) == {failed: "failed", live: "cancelled", doing: "cancelled"}


async def test_4_1_a_whole_graph_in_one_delete(db: Database) -> None:
    """500 levels, all of them at once, and what hung from the last one runs or is cancelled."""
    ids = await db.defer_batch({}, *({"after": [n], "run_when": "all_succeeded"} for n in range(500)))
    below = await db.defer(ids[-1], rule="all_succeeded")
    beside = await db.defer(ids[250])
    await db.execute(f"DELETE FROM {SCHEMA}.jobs WHERE id <= $1", ids[-1])
    assert await db.count() == 2
    assert await db.statuses(below, beside) == ["cancelled upstream", "todo"]


async def test_4_1_delete_of_everything_and_truncate(db: Database) -> None:
    await db.defer_batch({"lock": "l"}, {"after": [0], "lock": "l"}, {"after": [0, 1]})
    await db.fetch(3)
    await db.execute(f"DELETE FROM {SCHEMA}.jobs")
    await db.defer_batch({"lock": "l"}, {"after": [0], "lock": "l"}, {"after": [0, 1]})
    assert len(await db.fetch(3)) == 1
    await db.execute(f"TRUNCATE {SCHEMA}.jobs CASCADE")
    for table in ("jobs", "job_dependencies", "job_blocks", "deleted_parents", "locks", "job_events"):
        assert await db.value(f"SELECT count(*) FROM {SCHEMA}.{table}") == 0, table


async def test_4_1_a_deleted_parent_counts_in_a_later_retry(db: Database) -> None:
    """The child is decided anew by the end of the deleted parent too."""
    parent = await db.defer()
    needs = await db.defer(parent, rule="all_succeeded")
    handles = await db.defer(parent, rule="any_failed")
    await db.end("failed", parent)
    await db.end("failed", handles)
    await db.delete(parent)
    with refused(RULE_NOT_MET) as refusal:
        await db.retry(needs)
    assert refusal.detail == {"job_id": needs, "parents": {str(parent): "failed"}}
    await db.retry(handles)
    assert await db.status(handles) == "todo"


# 2. Parents that are gone


async def test_4_2_parent_statuses_report_deleted_parents(db: Database) -> None:
    """A parent that was deleted is reported with its end; one deleted live as cancelled."""
    failed, succeeded, live, skipped = await db.defer_batch({}, {}, {}, {})
    stays = await db.defer()
    child = await db.defer(failed, succeeded, live, skipped, stays)
    await db.end("failed", failed)
    await db.end("succeeded", succeeded)
    await db.end("cancelled", skipped)
    await db.delete(failed)
    await db.delete(succeeded, live, skipped)
    await db.end("aborted", stays)
    await db.start(child)
    expected = {failed: "failed", succeeded: "succeeded", live: "cancelled", skipped: "cancelled", stays: "aborted"}
    assert await db.parent_statuses(child) == expected


# 3. Pruning


async def test_4_3_pruning_leaves_a_parent_that_an_unfinished_child_has(db: Database) -> None:
    """And takes it once its last child has ended."""
    parent, lonely = await db.defer_batch({}, {})
    live = await db.defer()
    blocked, released = await db.defer(parent, live), await db.defer(parent)
    await db.end("succeeded", parent, lonely)
    assert await db.prune() == 1
    assert await db.statuses(parent, lonely) == ["succeeded", None]
    await db.start(released)
    assert await db.prune() == 0
    await db.finish({released: "failed"})
    assert await db.prune() == 1
    assert await db.statuses(parent, released) == ["succeeded", None]
    await db.end("failed", live)
    await db.end("succeeded", blocked)
    assert await db.prune() == 3
    assert await db.count() == 0


async def test_4_3_pruning_takes_what_it_was_asked_for(db: Database) -> None:
    """By status, queue and age, no more than max_jobs, oldest first."""
    jobs = {status: await db.defer(queue="q") for status in ENDED}
    elsewhere = await db.defer(queue="elsewhere")
    await db.end("cancelled", jobs["cancelled"])
    assert await db.fetch(3, ["q"]) == [jobs[s] for s in ENDED[:3]]
    for status in ENDED[:3]:
        await db.finish({jobs[status]: status})
    await db.end("succeeded", elsewhere)
    prune = f"SELECT pruned FROM {SCHEMA}.prune_jobs($1::text::interval, $2, $3, $4)"
    assert await db.value(prune, "1 h", list(ENDED), None, 10) == 0
    assert await db.value(prune, "0", ["succeeded"], "q", 10) == 1
    assert await db.statuses(jobs["succeeded"], elsewhere) == [None, "succeeded"]
    assert await db.value(prune, "0", list(ENDED), None, 1) == 1
    assert await db.status(jobs["cancelled"]) is None
    assert await db.value(prune, "0", list(ENDED), None, 10) == 3
    assert await db.count() == 0


@pytest.mark.parametrize(
    ("option", "status", "is_deleted"),
    [
        ("never", "succeeded", False),
        ("successful", "succeeded", True),
        ("successful", "failed", False),
        ("successful", "aborted", False),
        ("always", "succeeded", True),
        ("always", "failed", True),
        ("always", "aborted", True),
    ],
)
async def test_4_3_delete_jobs_deletes_what_ended_so(db: Database, option: str, status: str, is_deleted: bool) -> None:
    """But never a job that an unfinished child still has."""
    alone, parent = await db.defer_batch({}, {})
    child = await db.defer(parent)
    await db.start(alone, parent)
    await db.finish({alone: status, parent: status}, delete_jobs=option)
    assert await db.statuses(alone, parent) == [None if is_deleted else status, status]
    await db.start(child)
    await db.finish({child: "succeeded"}, delete_jobs=option)
    assert await db.status(child) == (None if option != "never" else "succeeded")


async def test_4_3_delete_jobs_takes_a_parent_whose_children_its_end_cancelled(db: Database) -> None:
    """They have ended with it, and go on reporting it."""
    parent = await db.defer()
    child = await db.defer(parent, rule="all_succeeded")
    await db.start(parent)
    await db.finish({parent: "failed"}, delete_jobs="always")
    assert await db.statuses(parent, child) == [None, "cancelled upstream"]
    assert await db.parent_statuses(child) == {parent: "failed"}


async def test_4_3_delete_jobs_does_not_take_a_job_that_will_be_retried(db: Database) -> None:
    job = await db.defer()
    await db.start(job)
    await db.finish({job: "todo"}, delete_jobs="always")
    assert await db.status(job) == "todo"


# 4. Cancelling and aborting


@pytest.mark.parametrize("was", ["blocked", "todo", "scheduled", "between two attempts"])
async def test_4_4_cancelling_is_terminal_at_once(db: Database, was: str) -> None:
    """For a blocked or todo job; it never runs, and its children are settled.

    RQ #1388: a deferred job can't be stopped. RQ #1691, #1902: a cancelled parent still starts its children.
    """
    parent = await db.defer()
    match was:
        case "blocked":
            job = await db.defer(parent)
        case "scheduled":
            job = await db.defer(scheduled_at="2999-01-01T00:00:00Z")
        case _:
            job = await db.defer()
    if was == "between two attempts":
        await db.start(job)
        await db.finish({job: "todo"})
    needs, cleans_up = await db.defer(job, rule="all_succeeded"), await db.defer(job)
    assert await db.cancel(job)
    assert await db.statuses(job, needs, cleans_up) == ["cancelled manual", "cancelled upstream", "todo"]
    assert not await db.cancel(job)
    await db.end("succeeded", parent)
    assert await db.fetch(10) == [cleans_up]


async def test_4_4_there_is_nothing_to_cancel(db: Database) -> None:
    """A running job is not cancelled without abort, an ended one not at all, an unknown one neither."""
    running, ended = await db.defer_batch({}, {})
    await db.start(running)
    await db.end("succeeded", ended)
    before = await db.snapshot()
    for job in (running, ended, 10**12):
        assert not await db.cancel(job)
        assert not await db.cancel(job, delete_job=True)
    assert not await db.cancel(ended, abort=True)
    assert await db.snapshot() == before


async def test_4_4_cancel_and_delete_counts_as_a_cancel(db: Database) -> None:
    job = await db.defer()
    needs, tolerates = await db.defer(job, rule="all_succeeded"), await db.defer(job, rule="none_failed")
    assert await db.cancel(job, delete_job=True)
    assert await db.statuses(job, needs, tolerates) == [None, "cancelled upstream", "todo"]


@pytest.mark.parametrize(
    ("end", "status"),
    [("aborted", "aborted"), ("succeeded", "succeeded"), ("failed", "failed"), ("todo", "aborted")],
)
async def test_4_4_aborting_is_a_request(db: Database, wakeups: Wakeups, end: str, status: str) -> None:
    """The job runs on, and its children wait, until its worker has stopped it; one that returns normally after all has
    succeeded; it is not retried."""
    job = await db.defer()
    child = await db.defer(job)
    await db.start(job)
    await wakeups.heard()
    assert await db.cancel(job, abort=True)
    assert await wakeups.heard() == [{"type": "abort", "job_id": job, "worker_id": db.worker}]
    assert await db.statuses(job, child) == ["doing", "blocked"]
    assert await db.value(f"SELECT array_agg(j) FROM {SCHEMA}.jobs_to_abort($1) AS j", db.worker) == [job]
    assert await db.finish({job: end}) == {}
    assert await db.statuses(job, child) == [status, "todo"]
    assert await db.value(f"SELECT array_agg(j) FROM {SCHEMA}.jobs_to_abort($1) AS j", db.worker) is None


async def test_4_4_abort_cancels_what_has_not_started(db: Database) -> None:
    job = await db.defer()
    assert await db.cancel(job, abort=True)
    assert await db.status(job) == "cancelled manual"


@pytest.mark.parametrize("how", ["deleted", "ended by plain SQL"])
async def test_4_4_ending_a_running_job_by_hand_frees_its_lock_at_once(db: Database, how: str) -> None:
    """And its late end is ignored."""
    running, parked = await db.defer(lock="l"), await db.defer(lock="l")
    child = await db.defer(running, rule="any_failed")
    await db.start(running)
    assert await db.fetch(10) == []
    if how == "deleted":
        await db.delete(running)
    else:
        await db.set_status("cancelled", running)
    assert set(await db.fetch(10)) == {parked, child}
    before = await db.snapshot()
    assert await db.finish({running: "succeeded"}, results={running: 1}) == {running: "stale"}
    assert await db.snapshot() == before


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
    assert await event_types(db, parent) == ["retried"] * 3


# 6. The database keeps the rule


@pytest.mark.parametrize("was", ["blocked", "todo", "scheduled", "doing"])
@pytest.mark.parametrize("status", ENDED)
async def test_4_6_plain_sql_may_end_a_live_job(db: Database, was: str, status: str) -> None:
    """Its children are settled by the same rules, and its lock is handed on."""
    parent = await db.defer()
    job = await db.defer(
        *([parent] if was == "blocked" else []),
        lock="l",
        scheduled_at="2999-01-01T00:00:00Z" if was == "scheduled" else None,
    )
    if was == "doing":
        await db.start(job)
    needs, handles = await db.defer(job, rule="all_succeeded"), await db.defer(job, rule="any_failed")
    await db.set_status(status, job)
    assert await db.column(job, "finished_at IS NOT NULL")
    expected = ["todo", "cancelled not_needed"] if status == "succeeded" else ["cancelled upstream", "todo"]
    assert await db.statuses(needs, handles) == expected
    assert await db.status(job) == ("cancelled manual" if status == "cancelled" else status)
    following = await db.defer(lock="l", queue="following")
    assert await db.fetch(1, ["following"]) == [following]


async def test_4_6_plain_sql_may_end_parents_and_children_in_one_statement(db: Database) -> None:
    """Each row as the statement says, and only those that it does not name are decided by their rules."""
    parent = await db.defer()
    child = await db.defer(parent, rule="all_succeeded")
    grandchild = await db.defer(child)
    sibling = await db.defer(parent, rule="all_succeeded")
    await db.execute(
        f"UPDATE {SCHEMA}.jobs SET status = CASE id WHEN $1 THEN 'failed' ELSE 'succeeded' END"
        f"::{SCHEMA}.job_status WHERE id IN ($1, $2)",
        parent,
        child,
    )
    assert await db.statuses(parent, child) == ["failed", "succeeded"]
    assert await db.statuses(grandchild, sibling) == ["todo", "cancelled upstream"]


async def test_4_6_plain_sql_may_end_many_jobs(db: Database) -> None:
    """A whole graph by one UPDATE without a list, and everything that hung from it."""
    layers = await db.defer_batch(*[{}] * 20, *[{"after": list(range(20))}] * 20)
    await db.defer(*layers, rule="all_succeeded", queue="last")
    await db.execute(f"UPDATE {SCHEMA}.jobs SET status = 'cancelled' WHERE queue <> 'last'")
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.jobs WHERE status = 'cancelled'") == 41
    assert await db.value(f"SELECT cancel_kind FROM {SCHEMA}.jobs WHERE queue = 'last'") == "upstream"


async def test_4_6_plain_sql_may_put_parent_and_child_back_in_one_statement(db: Database) -> None:
    """The revived decide about themselves last: the child waits for its parent."""
    parent = await db.defer()
    child = await db.defer(parent, rule="all_succeeded")
    grandchild = await db.defer(child, rule="all_succeeded")
    await db.end("failed", parent)
    await db.set_status("todo", parent, child, grandchild)
    assert await db.statuses(parent, child, grandchild) == ["todo", "blocked", "blocked"]
    await db.end("succeeded", parent)
    await db.end("succeeded", child)
    assert await db.status(grandchild) == "todo"


async def test_4_6_plain_sql_may_end_and_revive_in_one_statement(db: Database) -> None:
    """A child of both is decided by how its parents stand after the statement."""
    ends, revives = await db.defer_batch({}, {})
    child = await db.defer(ends, revives, rule="all_succeeded")
    await db.end("failed", revives)
    assert await db.status(child) == "blocked"
    await db.execute(
        f"UPDATE {SCHEMA}.jobs SET status = CASE id WHEN $1 THEN 'succeeded' ELSE 'todo' END::{SCHEMA}.job_status"
        " WHERE id IN ($1, $2)",
        ends,
        revives,
    )
    assert await db.statuses(ends, revives, child) == ["succeeded", "todo", "blocked"]
    await db.end("succeeded", revives)
    assert await db.status(child) == "todo"


async def test_4_6_plain_sql_may_delete_an_edge_which_drops_the_requirement(db: Database) -> None:
    """A blocked child is decided by the parents that it still has."""
    failed, live, succeeded = await db.defer_batch({}, {}, {})
    child = await db.defer(failed, live, succeeded, rule="all_succeeded")
    await db.end("failed", failed)
    await db.end("succeeded", succeeded)
    await db.delete_edge(failed, child)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", live)
    assert await db.status(child) == "todo"


@pytest.mark.parametrize("rule", RULES)
async def test_4_6_plain_sql_may_delete_all_edges(db: Database, rule: str) -> None:
    """No parents are left: runnable under every rule."""
    parents = await db.defer_batch({}, {})
    children = [await db.defer(*parents, rule=rule) for _ in range(3)]
    await db.execute(f"DELETE FROM {SCHEMA}.job_dependencies")
    assert await db.statuses(*children) == ["todo"] * 3


async def test_4_6_plain_sql_deletes_edge_of_last_live_parent(db: Database) -> None:
    """The child is decided by the parents that had ended, and its cancel goes on to its own children."""
    failed, live = await db.defer_batch({}, {})
    child = await db.defer(failed, live, rule="all_succeeded")
    below = await db.defer(child, rule="any_failed")
    await db.end("failed", failed)
    await db.delete_edge(live, child)
    assert await db.statuses(child, below) == ["cancelled upstream", "todo"]


@pytest.mark.parametrize(
    ("was", "to"),
    [
        ("blocked", "todo"),
        ("blocked", "doing"),
        ("todo", "doing"),
        ("todo", "blocked"),
        ("doing", "blocked"),
        *((was, to) for was in ENDED for to in (*ENDED, "doing", "blocked") if was != to),
    ],
)
async def test_4_6_transitions_that_break_an_invariant_are_refused(db: Database, was: str, to: str) -> None:
    """By one clear error that names the job and both states; nothing changes."""
    parent = await db.defer()
    job = await db.defer(parent) if was == "blocked" else await db.defer()
    if was == "doing":
        await db.start(job)
    elif was in ENDED:
        await db.end(was, job)
    before = await db.snapshot()
    with refused(TRANSITION_REFUSED) as refusal:
        await db.set_status(to, job)
    assert refusal.message == f"job {job} is {was} and can not become {to}"
    assert await db.snapshot() == before


@pytest.mark.parametrize(
    "change",
    [
        "id = id + 1000",
        "run_when = 'any_failed'",
        "cancel_kind = 'upstream'",
        "cancel_kind = NULL",
        "claim = claim + 1",
        "ignores_dependencies = true",
        "id = id + 1000, status = 'todo'",
        "status = 'todo', run_when = 'any_failed'",
    ],
)
async def test_4_6_columns_that_others_were_decided_by_can_not_be_changed(db: Database, change: str) -> None:
    job = await db.defer()
    await db.defer(job)
    await db.cancel(job)
    before = await db.snapshot()
    with refused(TRANSITION_REFUSED):
        await db.execute(f"UPDATE {SCHEMA}.jobs SET {change} WHERE id = $1", job)
    assert await db.snapshot() == before


@pytest.mark.parametrize("kind", ["upstream", "not_needed"])
async def test_4_6_a_cancel_by_hand_is_manual_whatever_the_statement_says(db: Database, kind: str) -> None:
    """A kind that no rule has decided is not taken."""
    job = await db.defer()
    child = await db.defer(job, rule="none_failed")
    await db.execute(f"UPDATE {SCHEMA}.jobs SET status = 'cancelled', cancel_kind = $2 WHERE id = $1", job, kind)
    assert await db.statuses(job, child) == ["cancelled manual", "todo"]


@pytest.mark.parametrize("status", ["blocked", "doing", *ENDED])
async def test_4_6_a_job_is_inserted_as_todo_only(db: Database, status: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await db.execute(f"INSERT INTO {SCHEMA}.jobs (task_name, status) VALUES ('t', $1)", status)
    assert caught.value.sqlstate == TRANSITION_REFUSED
    assert await db.count() == 0


async def test_4_6_a_job_inserted_by_hand_runs_and_is_announced(db: Database, wakeups: Wakeups) -> None:
    job = await db.value(f"INSERT INTO {SCHEMA}.jobs (task_name, queue) VALUES ('t', 'q') RETURNING id")
    later = await db.value(
        f"INSERT INTO {SCHEMA}.jobs (task_name, scheduled_at) VALUES ('t', now() + interval '1 h') RETURNING id"
    )
    assert "q" in await wakeups.queues()
    assert await db.fetch(10) == [job]
    assert await db.column(later, "gate") == "scheduled"


@pytest.mark.parametrize("statement", ["insert", "update", "upsert"])
async def test_4_6_an_edge_written_by_hand_is_refused(db: Database, statement: str) -> None:
    first, second, third = await db.defer_batch({}, {}, {})
    child = await db.defer(first)
    before = await db.snapshot()
    with refused(TRANSITION_REFUSED) as refusal:
        match statement:
            case "insert":
                await db.execute(f"INSERT INTO {SCHEMA}.job_dependencies VALUES ($1, $2)", second, child)
            case "update":
                await db.execute(f"UPDATE {SCHEMA}.job_dependencies SET parent_id = $1", third)
            case _:
                await db.execute(
                    f"INSERT INTO {SCHEMA}.job_dependencies VALUES ($1, $2) ON CONFLICT DO NOTHING", first, child
                )
    assert "edges can not be inserted or changed by hand" in refusal.message
    assert await db.snapshot() == before


async def test_4_6_an_upsert_is_an_update(db: Database) -> None:
    """INSERT ... ON CONFLICT DO UPDATE settles children as any other UPDATE."""
    parent = await db.defer()
    child = await db.defer(parent, rule="any_failed")
    await db.execute(
        f"INSERT INTO {SCHEMA}.jobs (id, task_name) VALUES ($1, 't') ON CONFLICT (id) DO UPDATE SET status = 'failed'",
        parent,
    )
    assert await db.statuses(parent, child) == ["failed", "todo"]


async def test_4_6_an_update_of_nothing_that_matters_is_free(db: Database, wakeups: Wakeups) -> None:
    """A person may correct arguments or a priority of a blocked job: it changes no state and wakes nobody."""
    parent = await db.defer()
    child = await db.defer(parent)
    await wakeups.heard()
    await db.execute(f"""UPDATE {SCHEMA}.jobs SET args = '{{"a": 1}}', priority = 3 WHERE id = $1""", child)
    assert await db.status(child) == "blocked"
    assert await wakeups.queues() == []


async def test_4_6_the_lock_of_a_running_job_does_not_change_under_it(db: Database) -> None:
    """It is refused, or the job holds the new one: two jobs of a lock never run together."""
    running, holder = await db.defer(lock="a"), await db.defer(lock="b")
    await db.start(running, holder)
    await db.defer(lock="a")
    with refused(TRANSITION_REFUSED):
        await db.execute(f"UPDATE {SCHEMA}.jobs SET lock = 'b' WHERE id = $1", running)
    assert await db.fetch(10) == []


async def test_4_6_acts_by_hand_are_kept_as_events(db: Database) -> None:
    job, cancelled = await db.defer_batch({}, {})
    await db.set_status("failed", job)
    await db.set_status("todo", job)
    await db.cancel(cancelled)
    assert await event_types(db, job) == ["ended", "retried"]
    assert await event_types(db, cancelled) == ["cancelled"]


# 7. Rescue


async def test_4_7_a_lost_workers_job_returns_three_times_then_fails(db: Database) -> None:
    """Whatever its retry rule; then it fails with that reason, and its children are settled."""
    job = await db.defer()
    child = await db.defer(job, rule="all_succeeded")
    for rescues in range(1, 4):
        await db.start(job)
        await db.lose_worker()
        assert await db.rescue() == {job: "todo"}
        assert await db.column(job, "rescues") == rescues
        assert await db.status(child) == "blocked"
        db.worker = await db.register_worker()
    await db.start(job)
    await db.lose_worker()
    assert await db.rescue() == {job: "failed"}
    assert await db.column(job, "error") == "WorkerLost: its worker was lost 4 times while it ran"
    assert await db.status(child) == "cancelled upstream"
    assert await event_types(db, job) == ["rescued"] * 4


async def test_4_7_a_retry_by_hand_gives_all_rescues_back(db: Database) -> None:
    """Those of before don't count any more."""
    job = await db.defer()
    for status in ("todo", "failed"):
        await db.start(job)
        await db.lose_worker()
        assert await db.rescue(max_rescues=1) == {job: status}
        db.worker = await db.register_worker()
    await db.retry(job)
    await db.start(job)
    await db.lose_worker()
    assert await db.rescue(max_rescues=1) == {job: "todo"}


async def test_4_7_with_an_abort_requested_it_ends_aborted(db: Database) -> None:
    job = await db.defer()
    child = await db.defer(job)
    await db.start(job)
    await db.cancel(job, abort=True)
    await db.lose_worker()
    assert await db.rescue() == {job: "aborted"}
    assert await db.status(child) == "todo"


async def test_4_7_a_worker_that_beats_keeps_its_jobs(db: Database, other: Database) -> None:
    """Only the lost worker's jobs are taken; one that left without ending its jobs is lost at once."""
    mine, lost, left = await db.defer_batch({}, {}, {})
    await db.start(mine)
    await other.start(lost)
    leaving = await db.register_worker()
    assert await db.fetch(1, worker=leaving) == [left]
    await db.execute(f"SELECT {SCHEMA}.unregister_worker($1)", leaving)
    assert await db.rescue() == {left: "todo"}
    await other.lose_worker()
    assert await db.rescue() == {lost: "todo"}
    assert await db.status(mine) == "doing"


@pytest.mark.parametrize("queues", [["q", "q"], ["a", "b"]], ids=["one queue", "two queues"])
async def test_4_7_a_rescued_jobs_lock_goes_on_in_order(
    db: Database, other: Database, wakeups: Wakeups, queues: list[str]
) -> None:
    """The rescued job stands in line again; a better one that waited goes first, and is announced where it is found
    behind a job of another queue."""
    lost = await db.defer(lock="l", queue=queues[0])
    await db.start(lost)
    better = await db.defer(lock="l", priority=5, queue=queues[1])
    assert await other.fetch(10) == []
    await db.lose_worker()
    assert await other.rescue() == {lost: "todo"}
    await wakeups.heard()
    fetched = await other.fetch(10)
    if not fetched:
        assert queues[1] in await wakeups.queues()
        fetched = await other.fetch(10)
    assert fetched == [better]
    await other.finish({better: "succeeded"})
    assert await other.fetch(10) == [lost]


async def test_4_4_a_run_that_is_given_back_counts_as_no_attempt(db: Database) -> None:
    """A deployment that stops workers must not use up a job's retries; a failed run does, and so does a lost worker."""
    given_back, failed, lost = await db.defer_batch({}, {}, {})
    await db.start(given_back, failed)
    await db.finish({given_back: "todo", failed: "todo"}, errors={failed: "ValueError: no"})
    worker = await db.register_worker()
    await db.fetch(3, worker=worker)
    await db.lose_worker(worker)
    await db.rescue()
    assert await db.column(given_back, "attempts") == 1  # of the rescue
    assert await db.column(failed, "attempts") == 2
    assert await db.column(lost, "attempts") == 1
