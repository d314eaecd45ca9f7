"""docs/semantics.md, section 4.6: the database keeps the rules, whoever writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.semantics.database import (
    ENDED,
    RULES,
    SCHEMA,
    TRANSITION_REFUSED,
    refused,
)

if TYPE_CHECKING:
    from tests.semantics.database import Database, Wakeups


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
    assert await db.event_types(job) == ["ended", "retried"]
    assert await db.event_types(cancelled) == ["cancelled"]
