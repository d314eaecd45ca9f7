"""docs/semantics.md, section 4.4 and 4.7: cancelling, aborting, rescue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import (
    SCHEMA,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups


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
    assert await db.event_types(job) == ["rescued"] * 4


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
