"""docs/semantics.md, section 6, rows 5 to 9, as the database has them: results of parents, waits, progress."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps.sql import queries
from tests.semantics.database import SCHEMA

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups

QUERIES = queries(SCHEMA)
PROGRESS = f"SELECT job_id, claim, done FROM {SCHEMA}.job_progress ORDER BY job_id"


async def results(db: Database, child: int) -> dict[int, Any]:
    rows = await db.rows(QUERIES["parent_results"], child)
    return {row[0]: None if row[2] is None else json.loads(row[2]) for row in rows}


async def watch(db: Database, *jobs: int, for_s: float = 60) -> list[int]:
    return [row[1] for row in await db.rows(QUERIES["watch_jobs"], list(jobs), float(for_s))]


async def tell(db: Database, job: int, done: float, claim: int | None = None) -> list[int]:
    """Tell how far a job is; whether it was held by somebody."""
    values = [job], [db.claims[job] if claim is None else claim], [done], [None], [None]
    return [row[0] for row in await db.rows(QUERIES["set_progress"], *values)]


async def ends(wakeups: Wakeups) -> list[tuple[int, str]]:
    return [(each["job_id"], each["status"]) for each in await wakeups.heard() if each["type"] == "job_ended"]


# 5


async def test_6_5_of_every_parent_by_id(db: Database) -> None:
    """None of one that did not succeed, was deleted, has not ended, or runs again."""
    first, failed, deleted, again, live = await db.defer_batch(*[{}] * 5)
    child = await db.defer(live, again, deleted, failed, first)
    for job, status in ((first, "succeeded"), (failed, "failed"), (deleted, "succeeded"), (again, "succeeded")):
        await db.start(job)
        await db.finish({job: status}, results={job: {"of": job}})
    await db.delete(deleted)
    await db.retry(again)
    found = await results(db, child)
    assert found == {first: {"of": first}, failed: None, deleted: None, again: None, live: None}
    assert list(found) == sorted(found)
    assert await results(db, first) == {}


# 6


@pytest.mark.parametrize("how", ["finished", "plain SQL", "cancelled", "by its rule", "deleted", "rescued"])
async def test_6_6_whatever_ends_a_job_tells_who_waits(db: Database, wakeups: Wakeups, how: str) -> None:
    parent = await db.defer()
    job = await db.defer(parent, rule="all_succeeded")
    unwatched = await db.defer(parent)
    await watch(db, job)
    match how:
        case "finished":
            await db.end("succeeded", parent)
            await db.end("failed", job)
            told = "failed"
        case "plain SQL":
            await db.set_status("aborted", job, unwatched)
            told = "aborted"
        case "cancelled":
            await db.cancel(job)
            told = "cancelled"
        case "by its rule":
            await db.end("failed", parent)
            told = "cancelled"
        case "deleted":
            await db.delete(job, unwatched)
            told = "deleted"
        case "rescued":
            await db.end("succeeded", parent)
            await db.start(job)
            await db.lose_worker()
            await db.rescue(max_rescues=0)
            told = "failed"
    assert await ends(wakeups) == [(job, told)]


async def test_6_6_an_attempt_that_is_repeated_is_no_end(db: Database, wakeups: Wakeups) -> None:
    job = await db.defer()
    await watch(db, job)
    await db.start(job)
    await db.finish({job: "todo"}, errors={job: "once more"})
    assert await ends(wakeups) == []
    await db.start(job)
    await db.finish({job: "succeeded"})
    assert await ends(wakeups) == [(job, "succeeded")]


# 7


async def test_6_7_what_nobody_waits_for_any_more_is_not_told(db: Database, wakeups: Wakeups) -> None:
    given_up, shared, expired = await db.defer_batch(*[{}] * 3)
    rows = await watch(db, given_up, shared)
    await watch(db, shared)
    await watch(db, expired, for_s=-1)
    await db.rows(QUERIES["unwatch_jobs"], rows)
    await db.end("succeeded", given_up, shared, expired)
    assert await ends(wakeups) == [(shared, "succeeded")]
    left = f"SELECT job_id FROM {SCHEMA}.job_waits"
    assert [row[0] for row in await db.rows(left)] == [shared, expired]
    await watch(db, shared)
    assert [row[0] for row in await db.rows(left)] == [shared, shared]


# 8


async def endless(db: Database, running: int, *, job: int | None = None, workflow: int | None = None) -> str | None:
    created_at = await db.column(running, "created_at")
    reason: str | None = await db.value(QUERIES["waits_for_ever"], running, created_at, job, workflow)
    return reason


async def test_6_8_a_job_that_waits_for_what_waits_for_it(db: Database) -> None:
    running = await db.defer(lock="l")
    other = await db.defer()
    child = await db.defer(running, other)
    grandchild = await db.defer(child, other)
    behind = await db.defer(lock="l")
    after_behind = await db.defer(behind)
    await db.start(running)
    for job in (running, child, grandchild, behind, after_behind):
        assert await endless(db, running, job=job) is not None
    assert await endless(db, running, job=other) is None
    await db.cancel(child)
    assert await endless(db, running, job=child) is None
    assert await endless(db, running, job=grandchild) is None
    await db.finish({running: "succeeded"})
    assert await endless(db, running, job=behind) is None


async def test_6_8_many_paths_are_walked_once(db: Database) -> None:
    """Forty layers of which each job depends on all of the one before have 3 ** 40 paths."""
    running = await db.defer()
    layer = [running]
    for _ in range(40):
        layer = [await db.defer(*layer) for _ in range(3)]
    await db.start(running)
    assert await endless(db, running, job=layer[0]) == f"that waits for job {running}"


# 9


async def test_6_9_the_last_report_of_the_present_claim_counts(db: Database) -> None:
    job = await db.defer()
    await db.start(job)
    first = db.claims[job]
    assert await tell(db, job, 1) == []
    assert await tell(db, job, 2) == []
    await db.finish({job: "todo"}, errors={job: "once more"})
    await db.start(job)
    await tell(db, job, 3, claim=first)
    assert [tuple(row) for row in await db.rows(PROGRESS)] == [(job, first, 2)]
    await tell(db, job, 1)
    await tell(db, job, 3, claim=first)
    assert [tuple(row) for row in await db.rows(PROGRESS)] == [(job, db.claims[job], 1)]
    await db.finish({job: "succeeded"})
    await tell(db, job, 4)
    assert [tuple(row) for row in await db.rows(PROGRESS)] == [(job, db.claims[job], 4)]


async def test_6_9_it_outlives_no_job_and_waits_for_nobody(db: Database, other: Database) -> None:
    job, gone = await db.defer_batch({}, {})
    await db.start(job, gone)
    async with other.transaction():
        await other.delete(job)
        assert await tell(db, job, 1) == [job]
    assert await tell(db, job, 1) == []
    await tell(db, gone, 1)
    await db.delete(gone)
    assert await db.rows(PROGRESS) == []


async def test_6_9_it_is_no_update_of_the_job(db: Database) -> None:
    job = await db.defer()
    await db.start(job)
    version = f"SELECT ctid::text, xmin::text FROM {SCHEMA}.jobs WHERE id = $1"
    before = await db.rows(version, job)
    await tell(db, job, 1)
    assert await db.rows(version, job) == before
