"""The functions about workflows in sql/functions, called as the model's methods are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import psycopg
from psycopg.types.json import Jsonb

from procrastinate_deps.sql import DEFAULT_SCHEMA, queries
from tests.model.database import Connection
from tests.model.model import Job
from tests.model.workflow_model import Workflow

LIST_WORKFLOWS = queries(DEFAULT_SCHEMA)["list_workflows"]
COUNTS = ("total", "blocked", "doing", "succeeded", "failed", "aborted", "cancelled", "upstream", "not_needed")
LISTED = ("id", "name", "parent_id", "path", "metadata", "is_unique", "status", *COUNTS)

ROWS = """
SELECT coalesce(jsonb_object_agg(w.id, jsonb_build_object(
    'started', w.started_at IS NOT NULL OR d.started IS NOT NULL,
    'finished', s.finished_at IS NOT NULL,
    'cancel_requested', w.cancel_requested_at IS NOT NULL,
    'holds_name', w.holds_name,
    'folded_end', w.finished_at IS NOT NULL,
    'folded', jsonb_build_array(
        w.total, w.blocked, w.succeeded, w.failed, w.aborted, w.cancelled, w.upstream, w.not_needed),
    'unfolded', d.unfolded,
    'jobs', (
        SELECT coalesce(jsonb_object_agg(j.id, j.node), '{}')
        FROM procrastinate_deps.jobs AS j WHERE j.workflow_id = w.id),
    'dependents', (
        SELECT coalesce(jsonb_agg(x.child_id ORDER BY x.child_id), '[]')
        FROM procrastinate_deps.workflow_dependents AS x WHERE x.workflow_id = w.id)
)), '{}')
FROM procrastinate_deps.workflows AS w
JOIN procrastinate_deps.workflow_states AS s USING (id)
CROSS JOIN LATERAL (
    SELECT count(*) AS unfolded, min(x.started) AS started
    FROM procrastinate_deps.workflow_deltas AS x WHERE x.workflow_id = w.id
) AS d
"""


def empty(connection: Connection) -> None:
    connection.execute("TRUNCATE procrastinate_deps.workflows RESTART IDENTITY CASCADE")


def listed(connection: Connection) -> dict[int, dict[str, Any]]:
    """As the product lists them: exact at any moment."""
    cursor = psycopg.RawCursor(connection)
    cursor.execute(LIST_WORKFLOWS.encode(), [None, None, None, False, None, 1000])
    found = [dict(zip(LISTED, row, strict=False)) for row in cursor.fetchall()]
    return {each["id"]: each for each in found}


def rows(connection: Connection) -> dict[int, dict[str, Any]]:
    """What lies below: folded and unfolded."""
    row = connection.execute(ROWS).fetchone()
    if row is None:
        raise LookupError("an aggregate gave no row")
    return {int(workflow): each for workflow, each in row[0].items()}


def defer_graph(
    connection: Connection, workflows: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]
) -> tuple[list[int], list[int]]:
    """The ids of the workflows, and of the jobs."""
    row = connection.execute(
        "SELECT workflow_ids, job_ids FROM procrastinate_deps.defer_graph(%s, %s)", [Jsonb(workflows), Jsonb(batch)]
    ).fetchone()
    return cast("tuple[list[int], list[int]]", row)


def nodes(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Of those that have one."""
    return dict(
        connection.execute(
            "SELECT id, node FROM procrastinate_deps.jobs WHERE id = ANY (%s) AND node IS NOT NULL", [list(ids)]
        ).fetchall()
    )


def insert(connection: Connection, job: Job) -> int:
    """By plain SQL."""
    row = connection.execute(
        "INSERT INTO procrastinate_deps.jobs "
        "(task_name, queue, priority, lock, queueing_lock, run_when, scheduled_at, workflow_id, node) VALUES "
        "('model', %s, %s, %s, %s, %s, CASE WHEN %s THEN timestamptz '2999-01-01' END, %s, %s) RETURNING id",
        [job.queue, job.priority, job.lock, job.queueing_lock, job.run_when, job.delayed, job.workflow, job.node],
    ).fetchone()
    return cast("tuple[int]", row)[0]


def workflow_spec(workflow: Workflow, earlier: int | None) -> dict[str, Any]:
    """earlier: the position of the one that it is nested in."""
    return {
        "name": workflow.name,
        "unique": workflow.unique,
        **({"parent_id": workflow.parent} if earlier is None else {"parent": earlier}),
    }


def cancel(connection: Connection, workflow: int, *, abort: bool) -> tuple[int, int]:
    row = connection.execute(
        "SELECT cancelled, abort_requested FROM procrastinate_deps.cancel_workflow(%s, %s)", [workflow, abort]
    ).fetchone()
    return cast("tuple[int, int]", row)


def retry(connection: Connection, workflow: int, mode: str) -> int:
    row = connection.execute("SELECT procrastinate_deps.retry_workflow(%s, %s)", [workflow, mode]).fetchone()
    return cast("tuple[int]", row)[0]


def delete(connection: Connection, workflow: int) -> int:
    row = connection.execute("SELECT procrastinate_deps.delete_workflow(%s)", [workflow]).fetchone()
    return cast("tuple[int]", row)[0]


def delete_rows(connection: Connection, workflows: Iterable[int]) -> None:
    connection.execute("DELETE FROM procrastinate_deps.workflows WHERE id = ANY (%s)", [list(workflows)])


def fold(connection: Connection, workflows: Iterable[int] | None, most: int) -> bool:
    row = connection.execute(
        "SELECT procrastinate_deps.fold_workflows(%s::bigint[], %s)",
        [None if workflows is None else list(workflows), most],
    ).fetchone()
    return cast("tuple[bool]", row)[0]


def listen(connection: Connection) -> list[tuple[int, str]]:
    """A list to which each end of a workflow is added that this connection is told of: (id, status)."""
    heard: list[tuple[int, str]] = []

    def hear(notify: psycopg.Notify) -> None:
        message = json.loads(notify.payload)
        if message["type"] == "workflow_ended":
            heard.append((message["workflow_id"], message["status"]))

    connection.add_notify_handler(hear)
    connection.execute("LISTEN procrastinate_deps")
    return heard
