"""docs/semantics.md, section 9, from row 8 on: whole workflows waited for, cancelled, retried, deleted and pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.semantics.database import ALREADY_ENQUEUED, CIRCULAR, SCHEMA, refused
from tests.semantics.test_9_workflows import (
    NO_SUCH_WORKFLOW,
    STRICT,
    cancel,
    delete,
    ended,
    fold,
    retry,
    send,
    state,
    status,
    workflow_of,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups

NESTED: list[dict[str, Any]] = [{"name": "outer"}, {"name": "inner", "parent": 0}]


@pytest.mark.parametrize("folded", [True, False])
async def test_9_8_a_job_that_depends_on_a_whole_workflow(db: Database, folded: bool) -> None:
    (outer, inner), [one, two] = await send(db, NESTED, {}, {"workflow": 1})
    await db.end("succeeded", one)
    if folded:
        await fold(db)
    child = await db.defer(rule=STRICT, depends_on_workflows=[outer])
    assert await db.parents(child) == [one, two]
    added = await db.defer(workflow_id=inner)
    (newly_nested,), [in_it] = await send(db, [{"name": "later", "parent_id": inner}], {})
    by_hand = await db.value(
        f"INSERT INTO {SCHEMA}.jobs (task_name, queue, workflow_id) VALUES ('task', 'by hand', $1) RETURNING id", outer
    )
    assert await db.parents(child) == [one, two, added, in_it, by_hand]
    assert await db.value(f"SELECT path FROM {SCHEMA}.workflows WHERE id = $1", newly_nested) == [
        outer, inner, newly_nested,
    ]  # fmt: skip
    await db.end("succeeded", two, added, in_it)
    assert await db.status(child) == "blocked"
    await db.end("failed", by_hand)
    assert await db.status(child) == "cancelled upstream"


async def test_9_8_growth_blocks_a_dependent_again_until_it_has_started(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    started, waiting = await db.defer_batch(*[{"depends_on_workflows": [workflow]}] * 2)
    await db.end("succeeded", one)
    await db.start(started)
    added = await db.defer(workflow_id=workflow)
    assert await db.statuses(waiting, started) == ["blocked", "doing"]
    assert await db.parents(started) == [one]
    await db.end("succeeded", added)
    assert await db.status(waiting) == "todo"


async def test_9_8_a_dependent_that_had_started_keeps_its_parents_when_it_is_retried(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    child = await db.defer(depends_on_workflows=[workflow])
    await db.end("failed", one)
    await db.start(child)
    added = await db.defer(workflow_id=workflow)
    await db.finish({child: "failed"})
    await db.retry(one)
    await db.retry(child)
    await db.defer(workflow_id=workflow)
    assert await db.parents(child) == [one]
    await db.end("succeeded", one)
    assert await db.statuses(child, added) == ["todo", "todo"]


async def test_9_8_a_dependent_that_a_new_job_names_as_well(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    child = await db.defer(depends_on_workflows=[workflow])
    added = await db.defer_batch({"workflow_id": workflow, "before": [child]}, {"workflow_id": workflow})
    assert await db.parents(child) == [one, *added]


async def test_9_8_a_batch_that_adds_to_the_workflow_too(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    added, child = await db.defer_batch({"workflow_id": workflow}, {"depends_on_workflows": [workflow]})
    assert await db.parents(child) == [one, added]
    with refused(CIRCULAR):
        await db.defer_batch({"depends_on_workflows": [workflow]}, {"workflow_id": workflow})
    _, [nested, last] = await send(
        db, [{"name": "nested", "parent_id": workflow}], {}, {"workflow": None, "depends_on_workflows": [workflow]}
    )
    assert await db.parents(last) == [one, added, nested]


async def test_9_8_an_empty_workflow_is_nothing_to_wait_for(db: Database) -> None:
    workflow, _ = await workflow_of(db)
    child = await db.defer(depends_on_workflows=[workflow])
    assert await db.status(child) == "todo"
    await db.defer(workflow_id=workflow)
    assert await db.status(child) == "blocked"


async def test_9_8_a_requirement_dropped_by_hand_is_not_renewed(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    children = await db.defer_batch(*[{"depends_on_workflows": [workflow]}] * 2)
    assert await db.remove_dependencies(children[0], one) == 1
    await db.delete_edge(one, children[1])
    await db.defer(workflow_id=workflow)
    assert await db.statuses(*children) == ["todo", "todo"]


async def test_9_8_a_deleted_job_of_it_changes_nothing_for_later_ones(db: Database) -> None:
    workflow, [one, two] = await workflow_of(db, {}, {})
    child = await db.defer(depends_on_workflows=[workflow])
    await db.delete(one)
    added = await db.defer(workflow_id=workflow)
    assert await db.parents(child) == [two, added]


async def test_9_8_no_job_waits_for_the_workflow_that_it_belongs_to(db: Database) -> None:
    (outer, inner), [_, two] = await send(db, NESTED, {}, {"workflow": 1})
    with refused(CIRCULAR):
        await db.defer(workflow_id=inner, depends_on_workflows=[outer])
    after_it = await db.defer(depends_on_workflows=[inner])
    with refused(CIRCULAR):
        await db.defer(after_it, workflow_id=inner)
    assert await db.parents(after_it) == [two]


async def test_9_9_cancelling_a_workflow(db: Database, wakeups: Wakeups) -> None:
    (outer, inner), [running, child, nested, _] = await send(
        db, NESTED, {}, {"after": [0], "lock": "lock"}, {"workflow": 1}, {"workflow": 1, "after": [2]}
    )
    outside = await db.defer(nested, rule="all_finished")
    await db.start(running)
    assert await cancel(db, outer) == (3, 1)
    assert await db.statuses(running, child, nested, outside) == [
        "doing",
        "cancelled manual",
        "cancelled manual",
        "todo",
    ]
    assert await db.column(running, "abort_requested") is True
    assert {"type": "abort", "job_id": running, "worker_id": db.worker} in await wakeups.heard()
    assert await status(db, outer) == "running"
    assert await status(db, inner) == "cancelled"
    assert await cancel(db, outer) == (0, 0)
    await db.finish({running: "todo"})
    await fold(db)
    assert await ended(wakeups) == [(outer, "cancelled")]
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.job_events WHERE type = 'cancelled'") == 3


async def test_9_9_cancelling_without_abort_lets_what_runs_run(db: Database) -> None:
    workflow, [running, _] = await workflow_of(db, {}, {"after": [0]})
    await db.start(running)
    assert await cancel(db, workflow, abort=False) == (1, 0)
    await db.finish({running: "succeeded"})
    assert await status(db, workflow) == "cancelled"


async def test_9_9_cancelling_what_is_nested_leaves_the_rest(db: Database) -> None:
    (outer, inner), [one, two] = await send(db, NESTED, {}, {"workflow": 1})
    assert await cancel(db, inner) == (1, 0)
    assert await db.statuses(one, two) == ["todo", "cancelled manual"]
    assert await state(db, outer) == {"status": "running", "total": 2, "cancelled": 1}


async def diamond(db: Database) -> tuple[int, list[int]]:
    """top → bad, good; bad → after_bad; both → last."""
    workflow, jobs = await workflow_of(
        db,
        {},
        {"after": [0]},
        {"after": [0]},
        {"after": [1], "run_when": STRICT},
        {"after": [1, 2], "run_when": "all_finished"},
    )
    top, bad, good, after_bad, last = jobs
    await db.end("succeeded", top)
    await db.end("failed", bad)
    await db.end("succeeded", good)
    await db.end("succeeded", last)
    assert await db.status(after_bad) == "cancelled upstream"
    assert await status(db, workflow) == "failed"
    return workflow, jobs


@pytest.mark.parametrize(
    ("mode", "revived", "statuses"),
    [
        ("failed", 1, ["succeeded", "todo", "succeeded", "blocked", "succeeded"]),
        ("failed_and_downstream", 3, ["succeeded", "todo", "succeeded", "blocked", "blocked"]),
        ("all", 5, ["todo", "blocked", "blocked", "blocked", "blocked"]),
    ],
)
async def test_9_10_what_a_retry_runs_again(db: Database, mode: str, revived: int, statuses: list[str]) -> None:
    workflow, jobs = await diamond(db)
    assert await retry(db, workflow, mode) == revived
    assert await db.statuses(*jobs) == statuses
    assert await status(db, workflow) == "running"
    for job in jobs:
        if await db.status(job) == "todo":
            await db.end("succeeded", job)
    assert await status(db, workflow) == "succeeded"


async def test_9_10_running_jobs_are_left_alone(db: Database) -> None:
    workflow, [running, failed, child] = await workflow_of(db, {}, {}, {"after": [0, 1]})
    await db.end("failed", failed)
    await db.start(running)
    assert await retry(db, workflow, "all") == 1
    assert await db.statuses(running, failed, child) == ["doing", "todo", "blocked"]


async def test_9_10_a_cancelled_workflow_is_retried(db: Database) -> None:
    workflow, jobs = await workflow_of(db, {}, {"after": [0]}, {"after": [1], "run_when": STRICT})
    await cancel(db, workflow)
    assert await retry(db, workflow) == 3
    assert await db.statuses(*jobs) == ["todo", "blocked", "blocked"]
    for job in jobs:
        await db.end("succeeded", job)
    assert await status(db, workflow) == "succeeded"


@pytest.mark.parametrize("mode", ["failed", "all"])
async def test_9_10_what_its_parents_outside_forbid_stays_as_it_ended(db: Database, mode: str) -> None:
    outside, deleted = await db.defer(), await db.defer()
    workflow, jobs = await workflow_of(
        db,
        {"depends_on": [outside], "run_when": STRICT},
        {"after": [0], "run_when": STRICT},
        {"depends_on": [deleted], "run_when": STRICT},
        {},
    )
    await db.cancel(jobs[0])
    await db.end("failed", outside, jobs[3])
    await db.delete(deleted)
    assert await retry(db, workflow, mode) == 1
    assert await db.statuses(*jobs) == ["cancelled manual", "cancelled upstream", "cancelled upstream", "todo"]


async def test_9_10_dependents_outside_are_decided_anew(db: Database) -> None:
    workflow, [failed] = await workflow_of(db, {})
    cancelled, waiting = await db.defer(failed, rule=STRICT), await db.defer(failed)
    await db.end("failed", failed)
    assert await retry(db, workflow) == 1
    assert await db.statuses(cancelled, waiting) == ["blocked", "blocked"]


async def test_9_10_a_taken_queueing_lock_stops_all_of_it(db: Database) -> None:
    workflow, jobs = await workflow_of(db, {}, {"queueing_lock": "q"})
    await db.end("failed", *jobs)
    await db.defer(queueing_lock="q")
    before = await db.snapshot()
    with refused(ALREADY_ENQUEUED):
        await retry(db, workflow)
    assert await db.snapshot() == before


async def test_9_10_an_unknown_mode(db: Database) -> None:
    workflow, _ = await workflow_of(db, {})
    with refused("22023"):
        await retry(db, workflow, "some")


@pytest.mark.parametrize("how", ["verb", "plain", "many"])
async def test_9_11_deleting_a_workflow(db: Database, how: str) -> None:
    (outer, inner), [_, nested, locked] = await send(
        db, NESTED, {}, {"workflow": 1, "after": [0]}, {"workflow": 1, "lock": "lock"}
    )
    doomed, runs = await db.defer(nested, rule=STRICT), await db.defer(nested, rule="any_failed")
    parked = await db.defer(lock="lock")
    await db.start(locked)
    match how:
        case "verb":
            assert await delete(db, outer) == 3
        case "plain":
            await db.execute(f"DELETE FROM {SCHEMA}.workflows WHERE id = $1", outer)
        case _:
            await db.execute(f"DELETE FROM {SCHEMA}.workflows WHERE id = ANY ($1)", [inner, outer])
    assert await db.statuses(doomed, runs) == ["cancelled upstream", "todo"]
    assert await db.parent_statuses(doomed) == {nested: "cancelled"}
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.workflows") == 0
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.workflow_deltas") == 0
    assert await db.count() == 3
    await db.start(parked)


@pytest.mark.parametrize("how", ["verb", "plain"])
async def test_9_11_what_it_was_nested_in_counts_its_jobs_no_more(db: Database, how: str) -> None:
    (outer, inner), [one, two] = await send(db, NESTED, {}, {"workflow": 1})
    await db.end("failed", two)
    if how == "verb":
        assert await delete(db, inner) == 1
    else:
        await db.execute(f"DELETE FROM {SCHEMA}.workflows WHERE id = $1", inner)
    assert await state(db, outer) == {"status": "running", "total": 1, "started_at": True}
    await db.end("succeeded", one)
    assert await status(db, outer) == "succeeded"


@pytest.mark.parametrize("verb", ["cancel_workflow", "retry_workflow", "delete_workflow"])
async def test_9_11_a_workflow_that_is_not_there(db: Database, verb: str) -> None:
    with refused(NO_SUCH_WORKFLOW) as refusal:
        await db.execute(f"SELECT {SCHEMA}.{verb}(77)")
    assert refusal.detail == {"workflow_id": 77}


async def prune(db: Database, *statuses: str, queue: str | None = None, batch: int = 1000) -> int:
    total, reached = 0, None
    while True:
        [row] = await db.rows(
            f"SELECT pruned, reached FROM {SCHEMA}.prune_jobs(interval '0', $1, $2, $3, $4)",
            statuses or ("succeeded", "failed", "cancelled", "aborted"),
            queue,
            batch,
            reached,
        )
        total, reached = total + row["pruned"], row["reached"]
        if reached is None:
            return int(total)


@pytest.mark.parametrize("batch", [1, 2, 1000])
async def test_9_12_a_workflow_is_pruned_as_a_whole(db: Database, batch: int) -> None:
    (outer, _), [one, two, three] = await send(db, NESTED, {}, {"workflow": 1}, {"workflow": 1})
    alone = await db.defer()
    await db.end("succeeded", one, two, alone)
    assert await prune(db, batch=batch) == 1
    await db.end("failed", three)
    await fold(db)
    assert await prune(db, "succeeded", batch=batch) == 0
    assert await prune(db, queue=await db.queue(one), batch=batch) == 0
    child = await db.defer(two)
    assert await prune(db, batch=batch) == 0
    await db.end("succeeded", child)
    assert await prune(db, batch=batch) == 4
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.workflows") == 0
    assert outer > 0


async def test_9_12_what_runs_again_is_not_pruned_though_nobody_folded_that(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    await db.end("succeeded", one)
    await fold(db)
    await db.defer(workflow_id=workflow)
    assert await prune(db) == 0


async def test_9_12_what_failed_when_it_ran_again_is_kept_though_nobody_folded_that(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    await db.end("succeeded", one)
    await fold(db)
    assert await retry(db, workflow, "all") == 1
    await db.end("failed", one)
    assert await prune(db, "succeeded", "cancelled", "aborted") == 0
    await fold(db)
    assert await prune(db, "succeeded") == 0
    assert await prune(db, "failed") == 1


async def test_9_12_what_pruning_has_begun_with_takes_no_job(db: Database) -> None:
    workflow, jobs = await workflow_of(db, {}, {})
    await db.end("succeeded", *jobs)
    await fold(db)
    [row] = await db.rows(f"SELECT * FROM {SCHEMA}.prune_jobs(interval '0', max_jobs => 1)")
    assert row["pruned"] == 1
    with refused(NO_SUCH_WORKFLOW):
        await db.retry(jobs[1])
    with refused(NO_SUCH_WORKFLOW):
        await db.defer(workflow_id=workflow)
    with refused(NO_SUCH_WORKFLOW):
        await retry(db, workflow, "all")
    assert await prune(db) == 1


async def test_9_12_delete_jobs_leaves_jobs_of_workflows(db: Database) -> None:
    _, [one] = await workflow_of(db, {})
    alone = await db.defer()
    await db.start(one, alone)
    await db.finish({one: "succeeded", alone: "succeeded"}, delete_jobs="always")
    assert await db.statuses(one, alone) == ["succeeded", None]


async def test_9_12_nothing_of_a_workflow_is_left_behind(db: Database) -> None:
    workflow, [one] = await workflow_of(db, {})
    child = await db.defer(depends_on_workflows=[workflow])
    await db.delete(child)
    tables: dict[str, Any] = {"workflow_dependents": 0, "job_blocks": 0}
    assert {name: await db.value(f"SELECT count(*) FROM {SCHEMA}.{name}") for name in tables} == tables
    await db.end("succeeded", one)
