"""docs/semantics.md, section 6: what a job can learn of its parents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import SCHEMA

if TYPE_CHECKING:
    from tests.semantics.database import Database


async def test_6_1_parent_statuses_by_id_as_plain_strings(db: Database) -> None:
    """Direct parents only, in the order of their ids, without the kind of a cancel."""
    grandparent = await db.defer()
    third, first, second = await db.defer(grandparent, rule="any_failed"), await db.defer(), await db.defer()
    parents = sorted([third, first, second])
    child = await db.defer(second, third, first)
    assert list((await db.parent_statuses(child)).items()) == [
        (job, "blocked" if job == third else "todo") for job in parents
    ]
    await db.end("succeeded", grandparent, first)
    await db.start(second)
    statuses = await db.parent_statuses(child)
    assert statuses == {third: "cancelled", first: "succeeded", second: "doing"}
    assert list(statuses) == parents


async def test_6_1_order_holds_with_deleted_parents(db: Database) -> None:
    """Deleted parents stand in their places."""
    parents = await db.defer_batch(*[{}] * 5)
    child = await db.defer(*parents)
    await db.end("failed", *parents)
    await db.delete(parents[1], parents[4])
    assert list((await db.parent_statuses(child)).items()) == [(parent, "failed") for parent in parents]


@pytest.mark.parametrize("job", ["without parents", "unknown"])
async def test_6_1_no_parents_no_statuses(db: Database, job: str) -> None:
    child = await db.defer() if job == "without parents" else 10**12
    assert await db.parent_statuses(child) == {}


async def test_6_1_a_retried_parent_is_reported_as_it_is_now(db: Database) -> None:
    """Also to a child that was claimed before and stays."""
    parent = await db.defer()
    child = await db.defer(parent)
    await db.end("failed", parent)
    await db.start(child)
    await db.retry(parent)
    assert await db.parent_statuses(child) == {parent: "todo"}


@pytest.mark.parametrize(
    "value", [{"rows": [1, 2.5, None]}, [], "text", 0, False, 12345678901234567890123, "é😀"], ids=str
)
async def test_6_2_a_result_is_stored_as_json(db: Database, value: object) -> None:
    job = await db.defer()
    await db.start(job)
    assert await db.finish({job: "succeeded"}, results={job: value}) == {}
    assert json.loads(await db.column(job, "result")) == value


async def test_6_2_each_of_a_batch_gets_its_own_result_and_error(db: Database) -> None:
    jobs = await db.defer_batch(*[{}] * 4)
    await db.start(*jobs)
    ends = dict(zip(reversed(jobs), ["succeeded", "failed", "succeeded", "aborted"], strict=True))
    await db.finish(ends, results={jobs[3]: "r3", jobs[1]: "r1"}, errors={jobs[2]: "e2", jobs[0]: "e0"})
    rows = await db.rows(f"SELECT status::text, result::text, error FROM {SCHEMA}.jobs ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("aborted", None, "e0"),
        ("succeeded", '"r1"', None),
        ("failed", None, "e2"),
        ("succeeded", '"r3"', None),
    ]


async def test_6_2_a_retry_forgets_the_result_and_keeps_it_as_an_event(db: Database) -> None:
    """Children that run after the new end never read the old value."""
    job = await db.defer()
    await db.start(job)
    await db.finish({job: "succeeded"}, results={job: {"old": 1}})
    await db.retry(job)
    assert await db.column(job, "result") is None
    detail = await db.value(f"SELECT detail FROM {SCHEMA}.job_events WHERE job_id = $1", job)
    assert json.loads(detail)["result"] == {"old": 1}
    await db.start(job)
    await db.finish({job: "succeeded"})
    assert await db.column(job, "result") is None


async def test_6_attempts_before_the_last_are_kept_as_events(db: Database) -> None:
    """A job that succeeds at its first attempt writes none."""
    job, smooth = await db.defer_batch({}, {})
    await db.end("succeeded", smooth)
    for attempt in range(2):
        await db.start(job)
        await db.finish({job: "todo"}, errors={job: f"error {attempt}"})
        assert await db.column(job, "error") == f"error {attempt}"
    await db.end("succeeded", job)
    rows = await db.rows(
        f"SELECT job_id, attempt, type, detail ->> 'error' AS error FROM {SCHEMA}.job_events ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [
        (job, 1, "attempt_failed", "error 0"),
        (job, 2, "attempt_failed", "error 1"),
    ]
    assert await db.column(job, "error") is None
    assert await db.column(job, "attempts") == 3
