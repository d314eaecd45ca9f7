"""docs/semantics.md, section 9: workflows, as the database keeps them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.semantics.database import (
    ALREADY_ENQUEUED,
    ALREADY_STARTED,
    CIRCULAR,
    DEPENDENCY_NOT_FOUND,
    ISOLATION_LEVEL,
    SCHEMA,
    TRANSITION_REFUSED,
    refused,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups

NO_SUCH_WORKFLOW, NAME_TAKEN, WAS_CANCELLED = "PD009", "PD010", "PD011"
STRICT = "all_succeeded"


async def send(db: Database, workflows: list[dict[str, Any]], *jobs: dict[str, Any]) -> tuple[list[int], list[int]]:
    batch = [{"task_name": "task", "queue": f"of {place}", "workflow": 0, **each} for place, each in enumerate(jobs)]
    [row] = await db.rows(
        f"SELECT * FROM {SCHEMA}.defer_graph($1::text::jsonb, $2::text::jsonb)",
        json.dumps(workflows),
        json.dumps([{k: v for k, v in each.items() if v is not None} for each in batch]),
    )
    return list(row["workflow_ids"]), list(row["job_ids"])


async def workflow_of(db: Database, *jobs: dict[str, Any], **fields: Any) -> tuple[int, list[int]]:
    [workflow], ids = await send(db, [{"name": "flow", **fields}], *jobs)
    return workflow, ids


async def state(db: Database, workflow: int) -> dict[str, Any]:
    """Status, counts that are not 0, and whether it has started and finished."""
    [row] = await db.rows(f"SELECT * FROM {SCHEMA}.workflow_states WHERE id = $1", workflow)
    names = ("total", "blocked", "succeeded", "failed", "aborted", "cancelled", "upstream", "not_needed")
    counts = {name: int(row[name]) for name in names if row[name]}
    times = {name for name in ("started_at", "finished_at") if row[name]}
    return {"status": row["status"], **counts, **dict.fromkeys(times, True)}


async def status(db: Database, workflow: int) -> str:
    return str((await state(db, workflow))["status"])


async def cancel(db: Database, workflow: int, *, abort: bool = True) -> tuple[int, int]:
    [row] = await db.rows(f"SELECT * FROM {SCHEMA}.cancel_workflow($1, $2)", workflow, abort)
    return row["cancelled"], row["abort_requested"]


async def retry(db: Database, workflow: int, mode: str = "failed") -> int:
    return int(await db.value(f"SELECT {SCHEMA}.retry_workflow($1, $2)", workflow, mode))


async def delete(db: Database, workflow: int) -> int:
    return int(await db.value(f"SELECT {SCHEMA}.delete_workflow($1)", workflow))


async def fold(db: Database) -> bool:
    return bool(await db.value(f"SELECT {SCHEMA}.fold_workflows()"))


async def ended(wakeups: Wakeups) -> list[tuple[int, str]]:
    return [(each["workflow_id"], each["status"]) for each in await wakeups.heard() if each["type"] == "workflow_ended"]


async def test_9_1_a_graph_is_sent_at_once(db: Database) -> None:
    workflows, jobs = await send(
        db,
        [{"name": "outer", "metadata": {"a": 1}}, {"name": "inner", "parent": 0}],
        {"node": "load"},
        {"workflow": 1, "after": [0], "node": "load"},
        {"after_workflows": [1], "run_when": STRICT},
        {"workflow": None, "after": [0, 0, 2]},
    )
    first, inner, join, outside = jobs
    assert await db.statuses(*jobs) == ["todo", "blocked", "blocked", "blocked"]
    assert [await db.parents(job) for job in jobs] == [[], [first], [inner], [first, join]]
    assert [await db.column(job, "workflow_id") for job in jobs] == [workflows[0], workflows[1], workflows[0], None]
    assert await state(db, workflows[0]) == {"status": "running", "total": 3, "blocked": 2}
    assert await state(db, workflows[1]) == {"status": "running", "total": 1, "blocked": 1}
    await db.end("failed", first)
    await db.end("failed", inner)
    assert await db.statuses(join, outside) == ["cancelled upstream", "todo"]


@pytest.mark.parametrize(
    ("jobs", "sqlstate"),
    [
        ([{"node": "a"}, {"node": "a"}], ALREADY_ENQUEUED),
        ([{"depends_on": [10**9]}], DEPENDENCY_NOT_FOUND),
        ([{"after": [1]}, {}], CIRCULAR),
        ([{"workflow": 1}], "22023"),
        ([{"workflow": None, "workflow_id": 10**9}], NO_SUCH_WORKFLOW),
        ([{"workflow": None, "depends_on_workflows": [10**9]}], NO_SUCH_WORKFLOW),
        ([{"after_workflows": [0]}], CIRCULAR),
        ([{"workflow": None, "after_workflows": [0]}, {}], CIRCULAR),
        ([{"node": "", "workflow": 0}], "23514"),
    ],
)
async def test_9_1_all_of_a_graph_or_nothing(db: Database, jobs: list[dict[str, Any]], sqlstate: str) -> None:
    with refused(sqlstate):
        await workflow_of(db, {}, *[{**each, "after": [a + 1 for a in each.get("after", [])]} for each in jobs])
    assert await db.count() == 0
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.workflows") == 0


async def test_9_1_a_node_may_be_named_again_elsewhere_and_later(db: Database) -> None:
    workflow, _ = await workflow_of(db, {"node": "a"})
    await workflow_of(db, {"node": "a"})
    with refused(ALREADY_ENQUEUED):
        await db.defer(workflow_id=workflow, node="a")
    await db.defer(workflow_id=workflow, node="b")


async def test_9_2_counts_follow_whoever_changes_jobs(db: Database) -> None:
    (outer, inner), jobs = await send(
        db, [{"name": "o"}, {"name": "i", "parent": 0}], *[{"workflow": place % 2} for place in range(8)]
    )
    child = await db.defer(jobs[0], rule=STRICT, workflow_id=inner)
    await db.start(jobs[0])
    assert await state(db, outer) == {"status": "running", "total": 9, "blocked": 1, "started_at": True}
    await db.set_status("failed", jobs[0])
    assert await db.status(child) == "cancelled upstream"
    assert await state(db, outer) == {
        "status": "running", "total": 9, "failed": 1, "upstream": 1, "started_at": True,
    }  # fmt: skip
    assert await state(db, inner) == {"status": "running", "total": 5, "upstream": 1}
    await db.set_status("succeeded", *jobs[1:4])
    await db.set_status("todo", jobs[0], jobs[1])
    await db.delete(jobs[2], jobs[3])
    await db.execute(f"INSERT INTO {SCHEMA}.jobs (task_name, workflow_id) VALUES ('task', $1)", inner)
    assert await state(db, outer) == {"status": "running", "total": 8, "blocked": 1, "started_at": True}
    await fold(db)
    assert await db.value(f"SELECT count(*) FROM {SCHEMA}.workflow_deltas") == 0
    assert await state(db, inner) == {"status": "running", "total": 5, "blocked": 1}


async def test_9_2_truncating_the_jobs_leaves_empty_workflows(db: Database) -> None:
    workflow, _ = await workflow_of(db, {}, {"after": [0]}, unique=True)
    await db.execute(f"TRUNCATE {SCHEMA}.jobs CASCADE")
    assert await state(db, workflow) == {"status": "succeeded", "finished_at": True}
    await workflow_of(db, {}, unique=True)


async def test_9_2_truncating_the_workflows_takes_all_jobs_along(db: Database) -> None:
    workflow, _ = await workflow_of(db, {})
    await db.defer(depends_on_workflows=[workflow])
    await db.execute(f"TRUNCATE {SCHEMA}.workflows CASCADE")
    for table in ("workflows", "workflow_deltas", "workflow_dependents", "jobs", "job_dependencies", "job_blocks"):
        assert await db.value(f"SELECT count(*) FROM {SCHEMA}.{table}") == 0, table


@pytest.mark.parametrize(
    "column", ["total = 7", "holds_name = true", "parent_id = 1", "id = 99", "finished_at = now()"]
)
async def test_9_2_what_follows_from_the_jobs_can_not_be_written(db: Database, column: str) -> None:
    await workflow_of(db, {})
    with refused(TRANSITION_REFUSED):
        await db.execute(f"UPDATE {SCHEMA}.workflows SET {column}")
    with refused(TRANSITION_REFUSED):
        await db.execute(f"INSERT INTO {SCHEMA}.workflows (name, path) VALUES ('n', '{{1}}')")
    await db.execute(f"UPDATE {SCHEMA}.workflows SET name = 'other', metadata = '{{\"a\": 1}}'")


@pytest.mark.parametrize("change", ["workflow_id = NULL", "node = 'other'"])
async def test_9_2_a_job_stays_in_its_workflow(db: Database, change: str) -> None:
    await workflow_of(db, {"node": "a"})
    with refused(TRANSITION_REFUSED):
        await db.execute(f"UPDATE {SCHEMA}.jobs SET {change}")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (["succeeded", "succeeded"], "succeeded"),
        (["succeeded", "failed"], "failed"),
        (["succeeded", "aborted"], "failed"),
        (["succeeded", "cancelled"], "cancelled"),
        (["cancelled", "failed"], "failed"),
    ],
)
async def test_9_3_the_status_of_a_workflow(db: Database, ends: list[str], expected: str) -> None:
    workflow, jobs = await workflow_of(db, {}, {})
    for job, end in zip(jobs, ends, strict=True):
        assert await status(db, workflow) == "running"
        await db.end(end, job)
    assert await status(db, workflow) == expected
    before = await state(db, workflow)
    await fold(db)
    assert await state(db, workflow) == before


async def test_9_3_a_cancel_that_is_not_needed_is_no_failure(db: Database) -> None:
    workflow, [first, _] = await workflow_of(db, {}, {"after": [0], "run_when": "any_failed"})
    await db.end("succeeded", first)
    assert await state(db, workflow) == {
        "status": "succeeded", "total": 2, "succeeded": 1, "not_needed": 1, "started_at": True, "finished_at": True,
    }  # fmt: skip


async def test_9_3_a_cancel_that_comes_too_late_changes_no_success(db: Database) -> None:
    workflow, [running, _] = await workflow_of(db, {}, {"after": [0], "run_when": "any_failed"})
    await db.start(running)
    assert await cancel(db, workflow) == (1, 1)
    await db.finish({running: "succeeded"})
    assert await status(db, workflow) == "cancelled"  # one that waited was cancelled in time
    other, [only] = await workflow_of(db, {})
    await db.end("succeeded", only)
    assert await cancel(db, other) == (0, 0)
    assert await status(db, other) == "succeeded"
    await fold(db)
    assert await status(db, other) == "succeeded"
    given_up, [bad] = await workflow_of(db, {})
    await db.end("failed", bad)
    await cancel(db, given_up)
    assert await status(db, given_up) == "cancelled"
    empty, _ = await workflow_of(db)
    await cancel(db, empty)
    assert await status(db, empty) == "cancelled"


async def test_9_3_an_empty_workflow_has_succeeded(db: Database) -> None:
    workflow, _ = await workflow_of(db, unique=True)
    assert await state(db, workflow) == {"status": "succeeded", "finished_at": True}
    await workflow_of(db, unique=True)


async def test_9_3_times_are_those_of_the_first_claim_and_the_last_end(db: Database) -> None:
    workflow, [one, two] = await workflow_of(db, {}, {})
    await db.start(one)
    await fold(db)
    await db.start(two)
    await db.finish({one: "succeeded"})
    await fold(db)
    assert "finished_at" not in await state(db, workflow)
    await db.finish({two: "succeeded"})
    for _ in range(2):
        assert await db.value(
            f"SELECT w.started_at = min(j.started_at) AND w.finished_at >= max(j.finished_at)"
            f" FROM {SCHEMA}.workflow_states AS w JOIN {SCHEMA}.jobs AS j ON j.workflow_id = w.id"
            " GROUP BY w.started_at, w.finished_at"
        )
        await fold(db)


async def test_9_4_the_end_of_a_workflow_is_announced(db: Database, wakeups: Wakeups) -> None:
    (outer, inner), [one, two] = await send(db, [{"name": "o"}, {"name": "i", "parent": 0}], {}, {"workflow": 1})
    await db.end("succeeded", two)
    await fold(db)
    assert await ended(wakeups) == [(inner, "succeeded")]
    await db.end("failed", one)
    await fold(db)
    assert await ended(wakeups) == [(outer, "failed")]
    await db.retry(one)
    await db.end("succeeded", one)
    await fold(db)
    await fold(db)
    assert await ended(wakeups) == [(outer, "succeeded")]
    assert await status(db, outer) == "succeeded"


async def test_9_5_one_live_unique_workflow_of_a_name(db: Database) -> None:
    workflow, [job] = await workflow_of(db, {}, unique=True)
    await workflow_of(db, {})
    with refused(NAME_TAKEN) as refusal:
        await workflow_of(db, {}, unique=True)
    assert refusal.detail == {"workflow_id": workflow, "name": "flow"}
    await db.end("failed", job)
    other, _ = await workflow_of(db, {}, unique=True)
    for act in (lambda: retry(db, workflow), lambda: db.retry(job), lambda: db.defer(workflow_id=workflow)):
        with refused(NAME_TAKEN):
            await act()
    with refused(NAME_TAKEN):
        await db.set_status("todo", job)
    await cancel(db, other)
    await db.retry(job)
    with refused(NAME_TAKEN):
        await retry(db, other)
    assert await status(db, workflow) == "running"


async def test_9_5_two_that_had_ended_do_not_run_again_together(db: Database) -> None:
    first, [one] = await workflow_of(db, {}, unique=True)
    await db.end("succeeded", one)
    second, [two] = await workflow_of(db, {}, unique=True)
    await db.end("succeeded", two)
    await fold(db)
    # its name is its own again, and no fold has seen yet that it has ended
    await db.retry(one)
    await db.end("succeeded", one)
    batch = [{"task_name": "task", "workflow_id": each} for each in (first, second)]
    for defer in (batch, batch[::-1]):
        with refused(NAME_TAKEN):
            await db.value(f"SELECT {SCHEMA}.defer_jobs($1::text::jsonb)", json.dumps(defer))
    with refused(NAME_TAKEN):
        await db.set_status("todo", one, two)
    assert [await status(db, each) for each in (first, second)] == ["succeeded", "succeeded"]


async def test_9_6_a_job_that_is_added_belongs_to_the_workflow(db: Database) -> None:
    workflow, [job] = await workflow_of(db, {})
    await db.end("succeeded", job)
    await fold(db)
    assert await status(db, workflow) == "succeeded"
    added = await db.defer(job, workflow_id=workflow)
    assert await state(db, workflow) == {"status": "running", "total": 2, "succeeded": 1, "started_at": True}
    await fold(db)
    assert await state(db, workflow) == {"status": "running", "total": 2, "succeeded": 1, "started_at": True}
    await db.end("succeeded", added)
    assert await status(db, workflow) == "succeeded"


async def test_9_6_a_cancelled_workflow_takes_no_job_until_it_is_retried(db: Database) -> None:
    workflow, _ = await workflow_of(db, {})
    await cancel(db, workflow)
    for act in (
        lambda: db.defer(workflow_id=workflow),
        lambda: send(db, [{"name": "nested", "parent_id": workflow}]),
        lambda: db.execute(f"INSERT INTO {SCHEMA}.jobs (task_name, workflow_id) VALUES ('task', $1)", workflow),
    ):
        with refused(WAS_CANCELLED) as refusal:
            await act()
        assert refusal.detail == {"workflow_id": workflow}
    assert await retry(db, workflow) == 1
    await db.defer(workflow_id=workflow)


async def test_9_6_adding_needs_read_committed(db: Database) -> None:
    workflow, _ = await workflow_of(db, {})
    with refused(ISOLATION_LEVEL):
        async with db.transaction("repeatable_read"):
            await db.defer(workflow_id=workflow)
    async with db.transaction("repeatable_read"):
        await workflow_of(db, {}, {"after": [0]})


async def test_9_7_a_new_job_as_the_parent_of_waiting_ones(db: Database) -> None:
    running = await db.defer()
    await db.start(running)
    blocked, todo = await db.defer(running), await db.defer()
    one, two = await db.defer_batch({"before": [blocked, todo]}, {"before": [blocked, blocked]})
    assert await db.statuses(blocked, todo) == ["blocked", "blocked"]
    await db.finish({running: "succeeded"})
    await db.end("succeeded", one)
    assert await db.statuses(blocked, todo) == ["blocked", "todo"]
    await db.end("succeeded", two)
    assert await db.status(blocked) == "todo"


async def test_9_7_what_can_not_get_a_new_parent(db: Database) -> None:
    running, ended_one = await db.defer(), await db.defer()
    await db.start(running)
    await db.end("failed", ended_one)
    before = await db.snapshot()
    for child, sqlstate in ((running, ALREADY_STARTED), (ended_one, ALREADY_STARTED), (10**9, "PD007")):
        with refused(sqlstate):
            await db.defer(before=[child])
    waiting = await db.defer(running)
    with refused(CIRCULAR) as refusal:
        await db.defer(waiting, before=[waiting])
    assert refusal.detail["cycle"][0] == refusal.detail["cycle"][-1]
    await db.delete(waiting)
    assert await db.snapshot() == before


async def test_9_7_a_new_job_that_would_close_several_cycles(db: Database) -> None:
    root = await db.defer()
    low, first, both, second = [await db.defer(root) for _ in range(4)]
    await db.add_dependencies(both, first, low)
    await db.add_dependencies(low, second)
    before = await db.snapshot()
    with refused(CIRCULAR) as refusal:
        await db.defer(both, before=[first, second])
    new = refusal.detail["cycle"][-2]
    assert refusal.detail["cycle"] == [first, both, new, first]
    assert await db.snapshot() == before


async def test_9_7_a_new_parent_that_is_cancelled_at_once(db: Database) -> None:
    failed = await db.defer()
    await db.end("failed", failed)
    join = await db.defer(rule=STRICT)
    new = await db.defer(failed, rule=STRICT, before=[join])
    assert await db.statuses(new, join) == ["cancelled upstream", "cancelled upstream"]
