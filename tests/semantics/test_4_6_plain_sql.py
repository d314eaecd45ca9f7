"""Row 4.6 of docs/semantics.md once more: plain SQL, and what else of a user's meets our triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from procrastinate_deps.sql import qualify, schema_script
from tests.semantics.database import SCHEMA, refused

if TYPE_CHECKING:
    from tests.semantics.database import Database

TRANSITION_REFUSED = "PD005"
LOCK_NOT_AVAILABLE = "55P03"


async def test_4_6_truncating_the_edges_drops_every_requirement(db: Database) -> None:
    parent = await db.defer()
    child = await db.defer(parent, rule="all_succeeded")
    await db.execute(f"TRUNCATE {SCHEMA}.job_dependencies")
    assert await db.statuses(parent, child) == ["todo", "todo"]


async def test_4_6_truncating_the_jobs_leaves_nothing_behind(db: Database) -> None:
    parent = await db.defer(lock="lock")
    await db.defer(parent)
    await db.start(parent)
    await db.execute(f"TRUNCATE {SCHEMA}.jobs CASCADE")
    for table in ("jobs", "job_dependencies", "job_blocks", "deleted_parents", "locks", "job_events"):
        assert await db.value(f"SELECT count(*) FROM {SCHEMA}.{table}") == 0, table


async def test_4_5_an_abort_that_was_asked_for_does_not_outlive_a_retry_by_hand(db: Database) -> None:
    job = await db.defer()
    await db.start(job)
    await db.cancel(job, abort=True)
    await db.lose_worker()
    await db.retry(job)
    assert await db.column(job, "abort_requested") is False


async def test_4_6_an_abort_that_was_asked_for_does_not_outlive_a_plain_requeue(db: Database) -> None:
    job = await db.defer()
    await db.start(job)
    await db.cancel(job, abort=True)
    await db.set_status("todo", job)
    assert await db.column(job, "abort_requested") is False


@pytest.mark.parametrize("change", ["started_at = now()", "worker_id = 7", "claim = 7", "ignores_dependencies = true"])
async def test_4_6_what_a_claim_writes_is_not_written_by_hand(db: Database, change: str) -> None:
    job = await db.defer()
    with refused(TRANSITION_REFUSED):
        await db.execute(f"UPDATE {SCHEMA}.jobs SET {change} WHERE id = $1", job)


async def test_a_schedule_is_a_moment_that_comes(db: Database) -> None:
    """An endless one would break the arithmetic of every worker that asks what is due next."""
    job = await db.defer()
    with pytest.raises(asyncpg.CheckViolationError, match="scheduled_at_finite"):
        await db.execute(f"UPDATE {SCHEMA}.jobs SET scheduled_at = 'infinity' WHERE id = $1", job)


async def test_4_1_an_id_that_is_used_again_by_hand_can_be_deleted_again(db: Database) -> None:
    first = await db.defer()
    child = await db.defer(first, await db.defer(), rule="none_failed")
    await db.set_status("failed", first)
    await db.delete(first)
    await db.execute(f"INSERT INTO {SCHEMA}.jobs (id, task_name) VALUES ($1, 't')", first)
    await db.add_dependencies(child, first)
    await db.delete(first)
    assert await db.parent_statuses(child) == {first: "cancelled", first + 1: "todo"}


async def test_many_rows_of_one_update_cost_no_more_than_their_number(db: Database) -> None:
    """Were each row looked for among all others, as it once was, this would not end within minutes."""
    await db.defer_batch(*[{"task_name": "t"}] * 30_000)
    await db.execute(f"UPDATE {SCHEMA}.jobs SET priority = 1")
    await db.execute(f"UPDATE {SCHEMA}.jobs SET status = 'failed'")
    await db.execute(f"UPDATE {SCHEMA}.jobs SET status = 'todo'")
    await db.execute(f"DELETE FROM {SCHEMA}.jobs")


async def test_a_long_cycle_is_named_at_once_and_briefly(db: Database) -> None:
    chain = await db.defer_batch({"task_name": "t"}, *({"task_name": "t", "after": [i]} for i in range(10_000)))
    with pytest.raises(asyncpg.PostgresError) as caught:
        await db.add_dependencies(chain[0], chain[-1])
    assert caught.value.sqlstate == "PD003"
    assert f"{chain[0]} -> {chain[1]} -> " in str(caught.value)
    assert "9991 more" in str(caught.value)


async def test_a_trigger_of_the_users_own_is_guarded_as_any_plain_sql(db: Database) -> None:
    """It fires while one of our functions writes; what it types is not that function's."""
    parent = await db.defer()
    child = await db.defer(parent, rule="all_succeeded")
    await db.execute(
        f"""
        CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE {SCHEMA}.jobs SET status = 'failed' WHERE id = {parent};
            RETURN NULL;
        END $$;
        CREATE TRIGGER on_insert AFTER INSERT ON {SCHEMA}.jobs FOR EACH ROW EXECUTE FUNCTION on_insert();
        """
    )
    await db.defer()
    await db.execute(f"DROP TRIGGER on_insert ON {SCHEMA}.jobs")
    assert await db.statuses(parent, child) == ["failed", "cancelled upstream"]


async def test_a_second_schema_of_ours_is_guarded_while_the_first_one_writes(db: Database) -> None:
    await db.execute('CREATE SCHEMA "other jobs"')
    async with db.transaction():
        await db.execute(qualify(schema_script(), "other jobs"))
    parent, child = await db.value(
        """SELECT "other jobs".defer_jobs('[{"task_name": "p"}, {"task_name": "c", "after": [0]}]')"""
    )
    await db.execute(
        f"""
        CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE "other jobs".jobs SET status = 'succeeded' WHERE id = {parent};
            RETURN NULL;
        END $$;
        CREATE TRIGGER on_insert AFTER INSERT ON {SCHEMA}.jobs FOR EACH ROW EXECUTE FUNCTION on_insert();
        """
    )
    await db.defer()
    await db.execute(f"DROP TRIGGER on_insert ON {SCHEMA}.jobs")
    assert await db.value('SELECT status::text FROM "other jobs".jobs WHERE id = $1', child) == "todo"
    assert await db.rows('SELECT * FROM "other jobs".violations()') == []


async def test_2_pausing_a_queue_does_not_stand_in_the_way_of_others(db: Database, other: Database) -> None:
    """It gives up rather than queue for what an open transaction shares: every lock would wait behind it."""
    first = await db.defer(lock="one")
    await db.defer(lock="one")
    await db.start(first)
    async with db.transaction():
        await db.set_status("failed", first)
        with refused(LOCK_NOT_AVAILABLE):
            await other.pause("another queue")
    assert await other.pause("another queue")


ON_END = f"""
CREATE FUNCTION on_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {{act}}; RETURN NULL; END $$;
CREATE TRIGGER a_users AFTER UPDATE ON {SCHEMA}.jobs FOR EACH ROW
WHEN (NEW.status = 'failed' AND OLD.status <> 'failed') EXECUTE FUNCTION on_end();
"""
DEFER = f"""PERFORM {SCHEMA}.defer_jobs(jsonb_build_array(jsonb_build_object(
    'task_name', 'alert', 'depends_on', (SELECT jsonb_agg(id) FROM {SCHEMA}.jobs WHERE task_name = 'task'))))"""
CALL = f"""WITH ended AS (UPDATE {SCHEMA}.jobs SET status = 'failed' WHERE id = $1 RETURNING id)
SELECT {SCHEMA}.{{call}} FROM ended"""


@pytest.mark.parametrize("way", ["finish", "update", "cancel"])
async def test_2_a_trigger_of_the_users_own_may_defer_a_child_of_what_is_just_ending(db: Database, way: str) -> None:
    """The child has counted the end before it is settled."""
    ends, live = await db.defer(queue="ends"), await db.defer(queue="lives")
    act = DEFER if way != "cancel" else DEFER.replace("'alert'", "'alert', 'queue', 'alert'")
    on_end = ON_END if way != "cancel" else ON_END.replace("'failed'", "'cancelled'")
    await db.execute(on_end.format(act=act))
    if way == "finish":
        await db.end("failed", ends)
    else:
        await db.set_status("failed" if way == "update" else "cancelled", ends)
    [alert] = [row["id"] for row in await db.rows(f"SELECT id FROM {SCHEMA}.jobs WHERE task_name = 'alert'")]
    assert await db.statuses(alert) == ["blocked"]
    await db.end("succeeded", live)
    assert await db.statuses(alert) == ["todo"]


@pytest.mark.parametrize("way", ["finish", "update"])
async def test_2_a_trigger_of_the_users_own_may_retry_what_is_just_ending(db: Database, way: str) -> None:
    parent = await db.defer()
    child = await db.defer(parent)
    await db.execute(ON_END.format(act=f"PERFORM {SCHEMA}.retry_job(NEW.id)"))
    if way == "finish":
        await db.end("failed", parent)
    else:
        await db.set_status("failed", parent)
    assert await db.statuses(parent, child) == ["todo", "blocked"]
    await db.execute("DROP FUNCTION on_end CASCADE")
    await db.end("succeeded", parent)
    assert await db.statuses(child) == ["todo"]


async def test_2_what_is_retried_by_the_statement_that_ended_it_waits_for_its_parents_again(db: Database) -> None:
    parent = await db.defer()
    child = await db.defer(parent)
    await db.execute(ON_END.format(act=f"PERFORM {SCHEMA}.retry_job(NEW.id)"))
    await db.set_status("failed", child)
    assert await db.statuses(parent, child) == ["todo", "blocked"]
    await db.end("succeeded", parent)
    assert await db.statuses(child) == ["todo"]


@pytest.mark.parametrize(
    "call", ["defer_jobs({batch})", "add_dependencies({child}, ARRAY[id, {live}])", "retry_job(id)"]
)
async def test_2_one_statement_may_end_a_job_and_call_what_counts_it(db: Database, call: str) -> None:
    ends, live = await db.defer(), await db.defer()
    child = await db.defer(live) if "add" in call else await db.defer(ends)
    batch = (
        f"""jsonb_build_array(jsonb_build_object('task_name', 'next', 'depends_on', jsonb_build_array(id, {live})))"""
    )
    await db.rows(CALL.format(call=call.format(batch=batch, child=child, live=live)), ends)
    last = await db.value(f"SELECT max(id) FROM {SCHEMA}.jobs")
    assert await db.statuses(last) == ["blocked"]
    if call == "retry_job(id)":
        assert await db.statuses(ends) == ["todo"]
    else:
        await db.end("succeeded", live)
        assert await db.statuses(last) == ["todo"]


async def test_4_6_a_job_that_ends_by_the_statement_that_drops_its_requirement_is_not_decided(db: Database) -> None:
    parent, failed = await db.defer(), await db.defer()
    child = await db.defer(parent, failed, rule="all_succeeded")
    live = await db.defer()
    grandchild = await db.defer(child, live)
    await db.set_status("failed", failed)
    await db.execute(
        f"WITH ended AS (UPDATE {SCHEMA}.jobs SET status = 'succeeded' WHERE id = {child})"
        f" DELETE FROM {SCHEMA}.job_dependencies WHERE child_id = {child} AND parent_id = {parent}"
    )
    assert await db.statuses(child, grandchild) == ["succeeded", "blocked"]


async def test_1_a_trigger_of_the_users_own_may_cancel_what_is_just_deferred(db: Database) -> None:
    await db.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM {SCHEMA}.cancel_job(NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER a_users AFTER INSERT ON {SCHEMA}.jobs FOR EACH ROW
        WHEN (NEW.task_name = 'forbidden') EXECUTE FUNCTION refuse();
    """)
    [row] = await db.rows(
        f"""SELECT job_ids FROM {SCHEMA}.defer_graph('[{{"name": "w"}}]', '[{{"task_name": "task", "workflow": 0}},
        {{"task_name": "forbidden", "after": [0], "workflow": 0}}]')"""
    )
    parent, forbidden = row["job_ids"]
    assert await db.statuses(parent, forbidden) == ["todo", "cancelled manual"]
    await db.end("failed", parent)
    assert await db.statuses(parent, forbidden) == ["failed", "cancelled manual"]


async def test_9_8_truncating_the_edges_ends_that_a_job_waits_for_a_whole_workflow(db: Database) -> None:
    [row] = await db.rows(
        f"""SELECT workflow_ids[1] AS workflow, job_ids[2] AS child FROM {SCHEMA}.defer_graph('[{{"name": "w"}}]',
        '[{{"task_name": "task", "workflow": 0}}, {{"task_name": "task", "after_workflows": [0]}}]')"""
    )
    await db.execute(f"TRUNCATE {SCHEMA}.job_dependencies")
    await db.defer(workflow_id=row["workflow"])
    assert await db.statuses(row["child"]) == ["todo"]


async def test_9_8_one_statement_may_insert_into_a_workflow_and_defer_what_waits_for_the_whole(db: Database) -> None:
    """Both join the new job and the one that waits."""
    workflow = await db.value(
        f"""SELECT workflow_ids[1] FROM {SCHEMA}.defer_graph(
            '[{{"name": "w"}}]', '[{{"task_name": "task", "workflow": 0}}]')"""
    )
    [row] = await db.rows(
        f"""WITH inserted AS (
            INSERT INTO {SCHEMA}.jobs (task_name, workflow_id) VALUES ('task', $1) RETURNING id, workflow_id)
        SELECT id, {SCHEMA}.defer_jobs(jsonb_build_array(jsonb_build_object(
            'task_name', 'task', 'depends_on_workflows', jsonb_build_array(workflow_id)))) AS waits FROM inserted""",
        workflow,
    )
    [waits] = row["waits"]
    assert row["id"] in await db.parents(waits)
    assert await db.statuses(waits) == ["blocked"]
