"""The functions in sql/functions, called as the model's methods are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString, TypeAlias, cast

import psycopg
from psycopg.types.json import Jsonb

from tests.model.model import Job, Outcome, Retry

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# Longer than an example takes, shorter than anything overflows
FUTURE = "now() + interval '1 day'"
RETRY_AT_FUTURE = "2999-01-01T00:00:00Z"

STATE = """
SELECT
    (SELECT coalesce(jsonb_object_agg(j.id, jsonb_build_object(
        'status', j.status, 'cancel_kind', j.cancel_kind, 'claim', j.claim, 'queue', j.queue, 'priority', j.priority,
        'lock', j.lock, 'run_when', j.run_when, 'worker', CASE WHEN j.status = 'doing' THEN j.worker_id END,
        'abort_requested', j.status = 'doing' AND j.abort_requested,
        'delayed', j.status IN ('blocked', 'todo') AND coalesce(j.scheduled_at > now(), false),
        'parents', (SELECT coalesce(jsonb_agg(jsonb_build_array(p.parent_id, p.status)), '[]')
            FROM procrastinate_deps.parent_statuses(j.id) AS p))), '{}')
    FROM procrastinate_deps.jobs AS j),
    (SELECT coalesce(jsonb_agg(to_jsonb(v)), '[]') FROM procrastinate_deps.violations() AS v)
"""
# Every job that could start, by fetches that are undone
PROBE = """
BEGIN;
SELECT coalesce(array_agg(id), '{{}}') FROM procrastinate_deps.fetch_jobs(NULL, {worker}, 1000);
ROLLBACK;
BEGIN;
SELECT coalesce(array_agg(id), '{{}}') FROM procrastinate_deps.fetch_jobs('{{a}}', {worker}, 1000);
ROLLBACK;
BEGIN;
SELECT coalesce(array_agg(id), '{{}}') FROM procrastinate_deps.fetch_jobs('{{b}}', {worker}, 1000);
ROLLBACK;
"""


def connect(dsn: str) -> Connection:
    return psycopg.connect(dsn, autocommit=True)


def empty(connection: Connection) -> None:
    connection.execute("TRUNCATE procrastinate_deps.jobs RESTART IDENTITY CASCADE")
    connection.execute("DELETE FROM procrastinate_deps.paused_queues")
    connection.execute("TRUNCATE procrastinate_deps.workers RESTART IDENTITY")


def state(connection: Connection) -> tuple[dict[str, Any], list[Any]]:
    """All jobs by id, and the broken invariants."""
    row = connection.execute(STATE).fetchone()
    if row is None:
        raise LookupError("a SELECT without FROM gave no row")
    return row[0], row[1]


def startable(connection: Connection, worker: int) -> list[list[int]]:
    """Of all queues, of `a` and of `b`."""
    # several statements in one message take no values
    cursor = connection.execute(PROBE.format(worker=int(worker)))
    found: list[list[int]] = [row[0] for result in cursor.results() if result.description for row in result]
    return found


def defer(connection: Connection, batch: Sequence[Mapping[str, Any]]) -> list[int]:
    return cast("list[int]", _value(connection, "SELECT procrastinate_deps.defer_jobs(%s)", Jsonb(batch)))


def fetch(connection: Connection, queues: Sequence[str] | None, worker: int, most: int) -> list[int]:
    rows = connection.execute(
        "SELECT id FROM procrastinate_deps.fetch_jobs(%s::text[], %s, %s)",
        [None if queues is None else list(queues), worker, most],
    ).fetchall()
    return [row[0] for row in rows]


def next_due(connection: Connection, queues: Sequence[str] | None) -> float | None:
    found = _value(
        connection, "SELECT procrastinate_deps.next_due(%s::text[])", None if queues is None else list(queues)
    )
    return cast("float | None", found)


def finish(connection: Connection, outcomes: Sequence[Outcome], delete_jobs: str = "never") -> list[tuple[int, str]]:
    retries = {
        str(outcome.job_id): {
            "retry_at": RETRY_AT_FUTURE if outcome.retry.delayed else None,
            "priority": outcome.retry.priority,
            "queue": outcome.retry.queue,
            "lock": outcome.retry.lock,
        }
        for outcome in outcomes
        if outcome.status == "todo"
    }
    return connection.execute(
        "SELECT job_id, refused FROM procrastinate_deps.finish_jobs("
        "%s::bigint[], %s::bigint[], %s::text[], %s::jsonb[], %s::text[], %s, %s)",
        [
            [outcome.job_id for outcome in outcomes],
            [outcome.claim for outcome in outcomes],
            [outcome.status for outcome in outcomes],
            [Jsonb("result") if outcome.status == "succeeded" else None for outcome in outcomes],
            ["error" if outcome.status in ("failed", "todo") else None for outcome in outcomes],
            Jsonb(retries),
            delete_jobs,
        ],
    ).fetchall()


def cancel(connection: Connection, job_id: int, *, abort: bool, delete: bool) -> bool:
    return bool(_value(connection, "SELECT procrastinate_deps.cancel_job(%s, %s, %s)", job_id, abort, delete))


def retry(
    connection: Connection, job_id: int, retry: Retry, *, reset_dependents: bool, ignore_dependencies: bool
) -> None:
    connection.execute(
        "SELECT procrastinate_deps.retry_job(%s, %s::timestamptz, %s::integer, %s::text, %s::text, %s, %s)",
        [
            job_id,
            RETRY_AT_FUTURE if retry.delayed else None,
            retry.priority,
            retry.queue,
            retry.lock,
            reset_dependents,
            ignore_dependencies,
        ],
    )


def lose_worker(connection: Connection, worker: int) -> None:
    """As time would: its last heartbeat is an hour old."""
    connection.execute(
        "UPDATE procrastinate_deps.workers SET heartbeat_at = now() - interval '1 hour' WHERE id = %s", [worker]
    )


def rescue(connection: Connection, max_rescues: int, max_jobs: int) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT job_id, status FROM procrastinate_deps.rescue_jobs('30 s', %s, %s)", [max_rescues, max_jobs]
    ).fetchall()


def register_worker(connection: Connection) -> int:
    return cast(
        "int", _value(connection, "SELECT procrastinate_deps.register_worker('model', 'localhost', 1, NULL, 10, '0')")
    )


def delete(connection: Connection, ids: Iterable[int]) -> None:
    connection.execute("DELETE FROM procrastinate_deps.jobs WHERE id = ANY (%s)", [list(ids)])


def prune(connection: Connection, statuses: Iterable[str]) -> int:
    return cast(
        "int", _value(connection, "SELECT pruned FROM procrastinate_deps.prune_jobs('0 s', %s)", list(statuses))
    )


def set_status(connection: Connection, ids: Iterable[int], status: str) -> None:
    connection.execute(
        "UPDATE procrastinate_deps.jobs SET status = %s::procrastinate_deps.job_status WHERE id = ANY (%s)",
        [status, list(ids)],
    )


def reschedule(connection: Connection, ids: Iterable[int], *, delayed: bool) -> None:
    connection.execute(
        "UPDATE procrastinate_deps.jobs SET scheduled_at = CASE WHEN %s THEN now() + interval '1 day' END "
        "WHERE id = ANY (%s)",
        [delayed, list(ids)],
    )


def pass_time(connection: Connection) -> None:
    """What lay in the future lies in the past now, and no statement has touched the rows since."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "UPDATE procrastinate_deps.jobs SET scheduled_at = now() - interval '1 s' WHERE scheduled_at > now()"
        )


def set_priority(connection: Connection, ids: Iterable[int], priority: int) -> None:
    connection.execute("UPDATE procrastinate_deps.jobs SET priority = %s WHERE id = ANY (%s)", [priority, list(ids)])


def pause(connection: Connection, queue: str) -> bool:
    return bool(_value(connection, "SELECT procrastinate_deps.pause_queue(%s)", queue))


def resume(connection: Connection, queue: str) -> bool:
    return bool(_value(connection, "SELECT procrastinate_deps.resume_queue(%s)", queue))


def add_dependencies(connection: Connection, child: int, parents: Iterable[int]) -> None:
    connection.execute("SELECT procrastinate_deps.add_dependencies(%s, %s::bigint[])", [child, list(parents)])


def remove_dependencies(connection: Connection, child: int, parents: Iterable[int]) -> int:
    return cast(
        "int",
        _value(connection, "SELECT procrastinate_deps.remove_dependencies(%s, %s::bigint[])", child, list(parents)),
    )


def delete_edges(connection: Connection, edges: Iterable[tuple[int, int]]) -> int:
    """edges: (parent, child), in one plain DELETE."""
    pairs = list(edges)
    return connection.execute(
        "DELETE FROM procrastinate_deps.job_dependencies "
        "WHERE (parent_id, child_id) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))",
        [[parent for parent, _ in pairs], [child for _, child in pairs]],
    ).rowcount


def spec(job: Job, depends_on: Iterable[int], after: Iterable[int]) -> dict[str, Any]:
    return {
        "task_name": "model",
        "queue": job.queue,
        "priority": job.priority,
        "lock": job.lock,
        "queueing_lock": job.queueing_lock,
        "run_when": job.run_when,
        "scheduled_at": RETRY_AT_FUTURE if job.delayed else None,
        "depends_on": list(depends_on),
        "after": list(after),
    }


def _value(connection: Connection, query: LiteralString, *values: object) -> object:
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise LookupError(f"no row from {query}")
    return row[0]
