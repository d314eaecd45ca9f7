"""
What a worker of ours has to get past, loaded by bulk SQL: deferring two million jobs is not what is measured.

What stands in the tables is what a million deferrals would have left: `violations()` is asked.
"""

from __future__ import annotations

from benchmarks.server import Connection

# In better places than what can be fetched: higher priorities, lower ids.
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


def load(connection: Connection, *, blocked: int = 0, finished: int = 0) -> None:
    """Insert that many jobs of each kind; without triggers, as a dump is restored."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        if finished:
            connection.execute(FINISHED, [finished])
        if blocked:
            row = connection.execute(PARENTS).fetchone()
            connection.execute(BLOCKED, [blocked, row[0] if row else 0])


def verify(connection: Connection) -> None:
    """Raise unless every invariant holds."""
    if broken := connection.execute("SELECT * FROM procrastinate_deps.violations()").fetchall():
        raise RuntimeError(f"the backlog is not what deferring would have left: {broken}")
