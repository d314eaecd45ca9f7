"""
How long fetching 10 jobs takes behind 1,000,000 blocked and 1,000,000 finished ones, against the same without them.

Two databases of one embedded server, alternating; medians. Ends with status 1 when the ratio is above 1.5.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psycopg

from procrastinate_deps.connectors import SyncPsycopgConnector
from procrastinate_deps.embedded import EmbeddedServer
from procrastinate_deps.schema import SchemaManager

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

BACKLOG = 1_000_000
ROUNDS = 30
WARM_UP_ROUNDS = 3
FETCHED = 10
MOST_TIMES_AS_LONG = 1.5

# In better places than what can be fetched: higher priorities, lower ids. Without triggers, as a dump is restored:
# deferring two million jobs is not what is measured.
FINISHED = """
INSERT INTO procrastinate_deps.jobs (task_name, priority, lock, status, started_at, finished_at)
SELECT 'finished', n %% 10 + 1, CASE WHEN n %% 10 = 0 THEN 'lock ' || n END, 'succeeded', now(), now()
FROM generate_series(1, %s) AS n
"""
PARENTS = """
WITH parents AS (
    INSERT INTO procrastinate_deps.jobs (task_name, scheduled_at, gate)
    SELECT 'parent', now() + interval '1 year', 'scheduled' FROM generate_series(1, 1000)
    RETURNING id
)
SELECT min(id) FROM parents
"""
BLOCKED = """
WITH children AS (
    INSERT INTO procrastinate_deps.jobs (task_name, priority, lock, status)
    SELECT 'blocked', n %% 10 + 1, CASE WHEN n %% 10 = 0 THEN 'lock ' || n END, 'blocked'
    FROM generate_series(1, %s) AS n
    RETURNING id
), edges AS (
    INSERT INTO procrastinate_deps.job_dependencies (parent_id, child_id)
    SELECT %s + id %% 1000, id FROM children
)
INSERT INTO procrastinate_deps.job_blocks (job_id, run_when, live, succeeded, failed, cancelled, not_needed)
SELECT id, 'all_finished', 1, 0, 0, 0, 0 FROM children
"""
READY = "INSERT INTO procrastinate_deps.jobs (task_name) SELECT 'ready' FROM generate_series(1, %s)"
WORKER = "SELECT procrastinate_deps.register_worker('benchmark', 'localhost', 1, NULL, 10, '0')"
FETCH = "SELECT id FROM procrastinate_deps.fetch_jobs('{default}', %s, %s)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fetch_backlog", description=__doc__)
    parser.add_argument("--backlog", type=int, default=BACKLOG, metavar="JOBS", help="of each kind (%(default)s)")
    backlog: int = parser.parse_args().backlog
    folder = Path(tempfile.mkdtemp(prefix="pd-bench-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with (
            EmbeddedServer(folder, database="alone") as alone_dsn,
            EmbeddedServer(folder, database="behind") as behind_dsn,
            prepared(alone_dsn, 0) as alone,
            prepared(behind_dsn, backlog) as behind,
        ):
            return compare(alone, behind, backlog)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def prepared(dsn: str, backlog: int) -> Iterator[Connection]:
    """An open connection to a migrated database with this backlog, and enough to fetch."""
    with SyncPsycopgConnector(conninfo=dsn) as connector:
        SchemaManager(connector).apply()
    with psycopg.connect(dsn, autocommit=True) as connection:
        if backlog:
            print(f"loading {backlog:,} finished and {backlog:,} blocked jobs", flush=True)
            load(connection, backlog)
        connection.execute(READY, [FETCHED * (ROUNDS + WARM_UP_ROUNDS)])
        connection.execute(WORKER)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
        yield connection


def load(connection: Connection, backlog: int) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute(FINISHED, [backlog])
        row = connection.execute(PARENTS).fetchone()
        connection.execute(BLOCKED, [backlog, row[0] if row else 0])


def compare(alone: Connection, behind: Connection, backlog: int) -> int:
    for _ in range(WARM_UP_ROUNDS):
        fetch(alone)
        fetch(behind)
    times = [(fetch(alone), fetch(behind)) for _ in range(ROUNDS)]
    without = statistics.median(seconds for seconds, _ in times)
    with_it = statistics.median(seconds for _, seconds in times)
    ratio = with_it / without
    print(f"a fetch of {FETCHED}, median of {ROUNDS}, alternating:")
    print(f"  {without * 1e3:.2f} ms without a backlog")
    print(f"  {with_it * 1e3:.2f} ms behind {backlog:,} blocked and {backlog:,} finished jobs")
    print(f"  {ratio:.2f} times as long (at most {MOST_TIMES_AS_LONG})")
    return int(ratio > MOST_TIMES_AS_LONG)


def fetch(connection: Connection) -> float:
    """Seconds for one fetch."""
    before = time.perf_counter()
    rows = connection.execute(FETCH, [1, FETCHED]).fetchall()
    seconds = time.perf_counter() - before
    if len(rows) != FETCHED:
        raise RuntimeError(f"fetched {len(rows)} jobs instead of {FETCHED}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
