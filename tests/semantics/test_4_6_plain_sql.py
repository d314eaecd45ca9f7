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
