"""
How long fetching 10 jobs takes behind 1,000,000 blocked and 1,000,000 finished ones, against the same without them.

Two databases of one embedded server, alternating; medians. Ends with status 1 when the ratio is above 1.5 or when the
fetch reads the table otherwise than by its index.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from procrastinate_deps.connectors import SyncPsycopgConnector
from procrastinate_deps.embedded import EmbeddedServer
from procrastinate_deps.schema import SchemaManager

ROUNDS = 30
FETCHED = 10
MOST_TIMES_AS_LONG = 1.5

# Loaded without triggers, as a restored dump is: deferring two million jobs is not what is measured.
LOAD = """
SET session_replication_role = replica;
SET synchronous_commit = off;
INSERT INTO procrastinate_deps.jobs (task_name, status, finished_at)
SELECT 'done', 'succeeded', now() FROM generate_series(1, {backlog});
INSERT INTO procrastinate_deps.jobs (id, task_name, scheduled_at, gate)
OVERRIDING SYSTEM VALUE VALUES (0, 'parent', now() + interval '1 year', 'scheduled');
WITH children AS (
    INSERT INTO procrastinate_deps.jobs (task_name, status)
    SELECT 'child', 'blocked' FROM generate_series(1, {backlog}) RETURNING id
), edges AS (
    INSERT INTO procrastinate_deps.job_dependencies (parent_id, child_id) SELECT 0, id FROM children
)
INSERT INTO procrastinate_deps.job_blocks (job_id, run_when, live, succeeded, failed, cancelled, not_needed)
SELECT id, 'all_finished', 1, 0, 0, 0, 0 FROM children;
"""
READY = """
SET session_replication_role = origin;
INSERT INTO procrastinate_deps.jobs (task_name) SELECT 'ready' FROM generate_series(1, 1000);
SELECT procrastinate_deps.register_worker('benchmark', 'localhost', 1, NULL, 10, '0');
"""
# The index that serves the choice of jobs, from auto_explain's report of the statements in the function
INDEX = "jobs_fetch"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--backlog", type=int, default=1_000_000, metavar="JOBS")
    backlog = parser.parse_args().backlog
    folder = Path(tempfile.mkdtemp(prefix="pd-bench-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with (
            EmbeddedServer(folder, database="empty") as empty_dsn,
            EmbeddedServer(folder, database="behind") as behind_dsn,
            prepared(empty_dsn, 0) as empty,
            prepared(behind_dsn, backlog) as behind,
        ):
            return compare(empty, behind, backlog)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prepared(dsn: str, backlog: int) -> psycopg.Connection:
    with SyncPsycopgConnector(conninfo=dsn) as connector:
        SchemaManager(connector).apply()
    connection = psycopg.connect(dsn, autocommit=True)
    if backlog:
        print(f"loading {backlog:,} finished and {backlog:,} blocked jobs", flush=True)
        connection.execute(LOAD.format(backlog=backlog))
    connection.execute(READY)
    connection.execute("VACUUM (ANALYZE)")
    return connection


def compare(empty: psycopg.Connection, behind: psycopg.Connection, backlog: int) -> int:
    for connection in (empty, behind):
        fetch(connection)  # plans and caches
    times: dict[str, list[float]] = {"empty": [], "behind": []}
    for _ in range(ROUNDS):
        times["empty"].append(fetch(empty))
        times["behind"].append(fetch(behind))
    alone, crowded = statistics.median(times["empty"]), statistics.median(times["behind"])
    ratio = crowded / alone
    plan = fetch_plan(behind)
    print(f"fetch of {FETCHED}, median of {ROUNDS}: {alone * 1e3:.2f} ms alone, ", end="")
    print(f"{crowded * 1e3:.2f} ms behind {backlog:,} blocked and {backlog:,} finished jobs: {ratio:.2f} times as long")
    print(plan)
    failed = ratio > MOST_TIMES_AS_LONG or INDEX not in plan or "Seq Scan on jobs" in plan
    print("FAILED" if failed else "passed")
    return int(failed)


def fetch(connection: psycopg.Connection) -> float:
    """Seconds for one fetch, which is undone."""
    with connection.transaction(force_rollback=True):
        before = time.perf_counter()
        rows = connection.execute(
            "SELECT id FROM procrastinate_deps.fetch_jobs('{default}', 1, %s)", [FETCHED]
        ).fetchall()
        seconds = time.perf_counter() - before
    if len(rows) != FETCHED:
        raise RuntimeError(f"fetched {len(rows)} jobs instead of {FETCHED}")
    return seconds


def fetch_plan(connection: psycopg.Connection) -> str:
    """How the function's statement that chooses jobs is executed."""
    reports: list[str] = []
    connection.add_notice_handler(lambda notice: reports.append(notice.message_primary or ""))
    connection.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;"
        "SET auto_explain.log_nested_statements = on; SET client_min_messages = log"
    )
    fetch(connection)
    return "\n".join(report for report in reports if "SKIP LOCKED" in report)


if __name__ == "__main__":
    sys.exit(main())
