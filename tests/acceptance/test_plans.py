"""
What a fetch reads: indexes alone, and no more of them behind a backlog than without.

The time itself is measured by `python -m benchmarks --loads fetch`, behind 1,000,000 jobs of each kind; here are fewer.
"""

from __future__ import annotations

import re

import psycopg
from psycopg.errors import Diagnostic

from benchmarks import backlog
from benchmarks.bench import FETCHED
from benchmarks.server import Connection
from procrastinate_deps.connectors import SyncPsycopgConnector
from procrastinate_deps.schema import SchemaManager

BACKLOG = 100_000
READY = 400
# Above a large table every index is a page or two deeper, for each of the ten jobs and each index that it stands in
# (measured: 10 to 30 more, with locks up to 340). To read the backlog itself takes thousands.
MOST_FURTHER_PAGES = 600
# Where nothing has been vacuumed, what earlier fetches and deletions have left behind is read too.
MOST_FURTHER_PAGES_UNVACUUMED = 1000

QUEUES = {"one queue": ["default"], "two queues": ["default", "other"], "all queues": None}
READY_JOBS = {
    "without locks": backlog.READY,
    "with locks": "INSERT INTO procrastinate_deps.jobs (task_name, lock) "
    "SELECT 'ready', 'lock ' || n / 2 FROM generate_series(1, %s) AS n",
}

# A table is vacuumed and its rows are counted when the test says so
NEVER_VACUUMED_BY_ITSELF = """
ALTER TABLE procrastinate_deps.jobs SET (autovacuum_enabled = off);
ALTER TABLE procrastinate_deps.job_dependencies SET (autovacuum_enabled = off);
ALTER TABLE procrastinate_deps.job_blocks SET (autovacuum_enabled = off);
"""
EXPLAIN_EVERYTHING = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET client_min_messages = log;
"""
SILENCE = """
SET auto_explain.log_min_duration = -1;
SET client_min_messages = notice;
"""
READS_A_TABLE = re.compile(r"\bSeq Scan on \w+")


def test_a_fetch_reads_indexes_only_and_no_more_behind_a_backlog(dsn: str, empty_dsn: str) -> None:
    with SyncPsycopgConnector(conninfo=empty_dsn) as connector:
        SchemaManager(connector).apply()
    with (
        psycopg.connect(empty_dsn, autocommit=True) as alone,
        psycopg.connect(dsn, autocommit=True) as behind,
    ):
        for connection in (alone, behind):
            connection.execute(NEVER_VACUUMED_BY_ITSELF)
            connection.execute(backlog.WORKER)
        backlog.load(behind, blocked=BACKLOG, finished=BACKLOG)

        for vacuumed, most in ((False, MOST_FURTHER_PAGES_UNVACUUMED), (True, MOST_FURTHER_PAGES)):
            few, many = pages_by_case(alone, vacuumed=vacuumed), pages_by_case(behind, vacuumed=vacuumed)
            further = {case: many[case] - few[case] for case in few}
            assert max(further.values()) <= most, f"further pages, vacuumed={vacuumed}: {further}"
            for queues in QUEUES.values():
                plans = plans_of_a_fetch(behind, queues)
                assert any("using jobs_fetch on jobs" in plan for plan in plans), "no plan is reported"
                assert [plan for plan in plans if READS_A_TABLE.search(plan)] == []

        # The same reading, where there is something to see
        behind.execute("DROP INDEX procrastinate_deps.jobs_fetch")
        assert pages_of_a_fetch(behind, ["default"]) > max(many.values()) + MOST_FURTHER_PAGES_UNVACUUMED


def pages_by_case(connection: Connection, *, vacuumed: bool) -> dict[str, int]:
    pages: dict[str, int] = {}
    for kind, insert in READY_JOBS.items():
        for name, queues in QUEUES.items():
            connection.execute("DELETE FROM procrastinate_deps.jobs WHERE task_name = 'ready'")
            connection.execute(insert, [READY])
            if vacuumed:
                connection.execute("VACUUM (ANALYZE)")
            # what a session reads once, the catalog above all, is none of a fetch's
            pages_of_a_fetch(connection, queues)
            pages[f"{kind}, {name}"] = pages_of_a_fetch(connection, queues)
    return pages


def pages_of_a_fetch(connection: Connection, queues: list[str] | None) -> int:
    """Pages touched by a fetch of 10, the functions' own statements included."""
    row = connection.execute(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id FROM procrastinate_deps.fetch_jobs(%s::text[], 1, %s)",
        [queues, FETCHED],
    ).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert plan["Actual Rows"] == FETCHED
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def plans_of_a_fetch(connection: Connection, queues: list[str] | None) -> list[str]:
    """How each statement inside the functions was executed."""
    plans: list[str] = []

    def listen(notice: Diagnostic) -> None:
        plans.append(notice.message_primary or "")

    connection.add_notice_handler(listen)
    connection.execute(EXPLAIN_EVERYTHING)
    fetched = connection.execute(
        "SELECT id FROM procrastinate_deps.fetch_jobs(%s::text[], 1, %s)", [queues, FETCHED]
    ).fetchall()
    connection.execute(SILENCE)
    connection.remove_notice_handler(listen)
    assert len(fetched) == FETCHED
    return [plan for plan in plans if "Query Text:" in plan]
