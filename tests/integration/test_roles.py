"""The grants of docs/roles.md, executed as they stand: each role can do its work as a non-owner, and nothing else."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import asyncpg
import pytest

from procrastinate_deps.jobs import JobSpec, Outcome
from procrastinate_deps.sql import queries
from procrastinate_deps.statements import defer_jobs, finish_and_fetch, set_progress

QUERIES = queries("procrastinate_deps")
PAGE = Path(__file__).parents[2] / "docs" / "roles.md"
S = "procrastinate_deps"
if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]
DEFER = f"SELECT {S}.defer_jobs($1::text::jsonb)"
READ = f"SELECT count(*) FROM {S}.jobs"


@contextlib.asynccontextmanager
async def as_role(dsn: str, role: str) -> AsyncIterator[Connection]:
    """A connection with a role of the page, made for this test alone: roles belong to the whole server."""
    connection: Connection = await asyncpg.connect(dsn)
    try:
        async with contextlib.AsyncExitStack() as stack:
            transaction = connection.transaction()
            await transaction.start()
            stack.push_async_callback(transaction.rollback)
            for block in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL):
                await connection.execute(block)
            await connection.execute("CREATE ROLE job_operator")
            await connection.execute(f"GRANT USAGE ON SCHEMA {S} TO job_operator")
            await connection.execute(f"GRANT SELECT, UPDATE, DELETE ON {S}.jobs TO job_operator")
            await connection.execute(f"GRANT SELECT, DELETE ON {S}.job_dependencies TO job_operator")
            await connection.execute(f"SET LOCAL ROLE {role}")
            yield connection
    finally:
        await connection.close()


async def refused(connection: Connection, sql: str, *values: Any) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with connection.transaction():
            await connection.execute(sql, *values)


async def test_a_deferrer_defers_and_reads_nothing(dsn: str) -> None:
    async with as_role(dsn, "job_deferrer") as connection:
        (parent,) = await connection.fetchval(DEFER, '[{"task_name": "t"}]')
        batch = f'[{{"task_name": "t", "depends_on": [{parent}]}}, {{"task_name": "t", "after": [0]}}]'
        assert len(await connection.fetchval(DEFER, batch)) == 2
        # as the library does it for one job
        one = defer_jobs([JobSpec(task_name="t")])
        assert await connection.fetchval(QUERIES[one.name], *one.values) > parent
        await refused(connection, READ)
        await refused(connection, f"UPDATE {S}.jobs SET priority = 1")
        await refused(connection, f"DELETE FROM {S}.jobs")
        await refused(connection, f"INSERT INTO {S}.jobs (task_name) VALUES ('t')")
        await refused(connection, f"SELECT {S}.cancel_job($1)", parent)
        await refused(connection, f"SELECT * FROM {S}.fetch_jobs(NULL, 1, 1)")
        await refused(connection, f"SELECT {S}.settle(ARRAY[$1::bigint])", parent)
        await refused(connection, f"SELECT {S}.start_settling()")


async def test_a_waiter_waits_and_reads_what_it_waits_for(dsn: str) -> None:
    async with as_role(dsn, "job_waiter") as connection:
        (job,) = await connection.fetchval(DEFER, '[{"task_name": "t"}]')
        watch, look, leave = (QUERIES[name] for name in ("watch_jobs", "look_at_jobs", "unwatch_jobs"))
        ((watched, wait),) = await connection.fetch(watch, [job], 60.0)
        assert watched == job
        assert [row["id"] for row in await connection.fetch(look, [job])] == [job]
        await connection.execute(leave, [wait])
        for name, values in (
            ("look_at_workflows", ([1],)),
            ("get_workflow", (1,)),
            ("first_unsuccessful_job", (1,)),
        ):
            assert await connection.fetch(QUERIES[name], *values) == []
        await refused(connection, f"SELECT * FROM {S}.job_waits")
        await refused(connection, f"SELECT {S}.cancel_job($1)", job)
        await refused(connection, f"SELECT * FROM {S}.fetch_jobs(NULL, 1, 1)")


async def test_a_planner_reads_what_took_how_long_and_which_job_has_a_name(dsn: str) -> None:
    async with as_role(dsn, "job_planner") as connection:
        assert await connection.fetch(QUERIES["mean_run_times"], ["t"], 3600.0) == []
        graph = f"SELECT * FROM {S}.defer_graph($1::text::jsonb, $2::text::jsonb)"
        jobs = '[{"task_name": "t", "workflow": 0, "node": "first"}]'
        [((workflow,), (job,))] = await connection.fetch(graph, '[{"name": "w"}]', jobs)
        [found] = await connection.fetch(QUERIES["find_nodes"], workflow, ["first"])
        assert tuple(found) == ("first", job)
        await refused(connection, f"SELECT args FROM {S}.jobs")
        await refused(connection, f"SELECT {S}.cancel_workflow($1)", workflow)


async def test_a_worker_runs_jobs_and_writes_through_functions_alone(dsn: str) -> None:
    async with as_role(dsn, "job_worker") as connection:
        worker = await connection.fetchval(f"SELECT {S}.register_worker('w', 'h', 1, NULL, 1, '0')")
        parent, child = await connection.fetchval(DEFER, '[{"task_name": "t"}, {"task_name": "t", "after": [0]}]')
        (job,) = await connection.fetch(f"SELECT * FROM {S}.fetch_jobs(NULL, $1, 10)", worker)
        assert job["id"] == parent
        finish = (
            f"SELECT * FROM {S}.finish_jobs(ARRAY[$1::bigint], ARRAY[$2::bigint], '{{succeeded}}', '{{1}}', '{{NULL}}')"
        )
        assert await connection.fetch(finish, parent, job["claim"]) == []
        assert await connection.fetchval(f"SELECT status::text FROM {S}.jobs WHERE id = $1", child) == "todo"
        one = defer_jobs([JobSpec(task_name="t")])
        last = await connection.fetchval(QUERIES[one.name], *one.values)
        both = finish_and_fetch([], "never", None, worker, 10)
        fetched = await connection.fetch(QUERIES[both.name], *both.values)
        assert [row["id"] for row in fetched] == [child, last]
        outcomes = [Outcome(job_id=row["id"], claim=row["claim"], status="todo") for row in fetched]
        both = finish_and_fetch(outcomes, "never", ["other"], worker, 10)
        assert await connection.fetch(QUERIES[both.name], *both.values) == []
        assert await connection.fetch(QUERIES["claimed_jobs"], worker) == []
        assert await connection.fetchval(f"SELECT {S}.heartbeat($1)", worker) is True
        periodic = (
            '{"task_name": "p", "periodic_id": "", "cron": "", "timezone": "", "job": {"task_name": "p", "args": {}}}'
        )
        assert (
            await connection.fetchval(f"SELECT task_name FROM {S}.register_periodic_tasks($1)", f"[{periodic}]") == "p"
        )
        deferred = await connection.fetchrow(f"SELECT * FROM {S}.defer_periodic_job($1, 100)", periodic)
        assert deferred is not None
        assert deferred["outcome"] == "deferred"
        assert await connection.fetchval(f"SELECT {S}.run_periodic_task('p')") > deferred["job_id"]
        assert await connection.fetchval(f"SELECT count(*) FROM {S}.periodic_tasks") == 1
        assert await connection.fetchval(f"SELECT {S}.forget_periodic_task('p')") is True
        assert await connection.fetch(f"SELECT * FROM {S}.rescue_jobs()") == []
        assert await connection.fetchval(f"SELECT {S}.cancel_job($1)", child) is True
        await connection.execute(f"SELECT {S}.retry_job($1)", child)
        for act, values, outcome in (
            ("cancel_jobs", (False,), "cancelled"),
            ("retry_jobs", (None, None, None, None, True, False, 30.0), "retried"),
            ("delete_jobs", (False,), "refused"),
        ):
            assert await connection.fetchrow(QUERIES[act], [child], *values) == (child, outcome, ANY)
        assert await connection.fetchval(f"SELECT {S}.pause_queue('default')") is True
        assert await connection.fetchval(f"SELECT {S}.resume_queue('default')") is True
        assert await connection.fetchval(f"SELECT count(*) FROM {S}.alembic_version") == 1
        numbers = {f"{kind}_{name}": 1 for kind in ("run", "wait") for name in ("sum", "min", "max")}
        histograms = {"run_histogram": [1], "wait_histogram": [1]}
        stats = {"queue": "q", "task_name": "t", "status": "succeeded", "runs": 1, **numbers, **histograms}
        add = f"SELECT {S}.add_job_stats($1, 1, '0', $2::text::jsonb)"
        assert await connection.fetchval(add, worker, json.dumps([stats])) is True
        assert await connection.fetchval(f"SELECT {S}.prune_job_stats('7 d')") == 0
        assert await connection.fetchval(f"SELECT pruned FROM {S}.prune_jobs('1 h')") == 0
        ((_, wait),) = await connection.fetch(QUERIES["watch_jobs"], [last], 60.0)
        await connection.execute(QUERIES["unwatch_jobs"], [wait])
        assert await connection.fetchval(QUERIES["waits_for_ever"], parent, job["created_at"], last, None) is None
        told = set_progress([(parent, job["claim"], 1.0, None, None)])
        assert await connection.fetch(QUERIES[told.name], *told.values) == []
        assert await connection.fetchval(QUERIES["begin_sweep"], worker, 600.0) is True
        for sweep, start in (("sweep_blocked", 0), ("sweep_locks", ""), ("sweep_workflows", 0)):
            (swept,) = await connection.fetch(QUERIES[sweep], start)
            assert tuple(swept) == (None, "{}")
        assert await connection.fetchval(QUERIES["repair"], "counters belong to a job", [1]) == []
        assert "succeeded" in await connection.fetchval(QUERIES["explain_job"], parent, 200)
        await connection.execute(f"SELECT {S}.unregister_worker($1)", worker)
        await refused(connection, f"UPDATE {S}.jobs SET priority = 1")
        await refused(connection, f"DELETE FROM {S}.job_dependencies")
        await refused(connection, f"SELECT {S}.settle(ARRAY[$1::bigint])", parent)


async def test_a_reader_reads_and_changes_nothing(dsn: str) -> None:
    async with as_role(dsn, "job_reader") as connection:
        assert await connection.fetchval(READ) == 0
        assert await connection.fetch(f"SELECT * FROM {S}.violations()") == []
        assert await connection.fetchval(QUERIES["explain_job"], 1, 200) is None
        assert await connection.fetch(QUERIES["doomed_jobs"], [1]) == []
        assert await connection.fetch(QUERIES["doomed_in_workflow"], 1) == []
        await refused(connection, QUERIES["repair"], "counters belong to a job", [1])
        await refused(connection, DEFER, '[{"task_name": "t"}]')
        await refused(connection, f"SELECT {S}.cancel_job(1)")
        await refused(connection, f"UPDATE {S}.jobs SET priority = 1")
        await refused(connection, f"DELETE FROM {S}.jobs")


async def test_an_operator_acts_in_plain_sql_and_the_triggers_settle(dsn: str) -> None:
    async with as_role(dsn, "job_operator") as connection:
        await connection.execute("RESET ROLE")
        batch = '[{"task_name": "t"}, {"task_name": "t", "after": [0], "run_when": "all_succeeded"}]'
        parent, child = await connection.fetchval(DEFER, batch)
        other, orphan = await connection.fetchval(DEFER, batch)
        await connection.execute("SET LOCAL ROLE job_operator")
        await connection.execute(f"UPDATE {S}.jobs SET status = 'failed' WHERE id = $1", parent)
        await connection.execute(f"DELETE FROM {S}.job_dependencies WHERE child_id = $1", orphan)
        await connection.execute(f"DELETE FROM {S}.jobs WHERE id = $1", other)
        rows = await connection.fetch(f"SELECT id, status::text FROM {S}.jobs ORDER BY id")
        assert {row["id"]: row["status"] for row in rows} == {parent: "failed", child: "cancelled", orphan: "todo"}
        await refused(connection, f"SELECT * FROM {S}.job_blocks")
