"""docs/semantics.md, section 4.1 to 4.3: deletion, parents that are gone, pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import (
    ENDED,
    RULE_NOT_MET,
    RULES,
    SCHEMA,
    refused,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database


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
