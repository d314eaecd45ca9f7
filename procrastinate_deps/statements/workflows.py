"""Whole graphs: sent at once, read, cancelled, retried and deleted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from procrastinate_deps.exceptions import WorkflowNotFound
from procrastinate_deps.jobs import CancelKind, Status
from procrastinate_deps.jsontext import JsonDumps, dump, encode
from procrastinate_deps.statements.base import Row, Statement, read_value, utc, utc_or_none
from procrastinate_deps.statements.deferring import job_json
from procrastinate_deps.statements.listing import PAGE_SIZE, list_jobs
from procrastinate_deps.workflow_info import (
    DeferredGraph,
    Edge,
    RetryMode,
    WorkflowCancellation,
    WorkflowInfo,
    WorkflowStatus,
    check_workflow_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from procrastinate_deps.jobs import Job, JobSpec, WorkflowSpec
    from procrastinate_deps.jsontext import JsonLoads

WORKFLOWS_PAGE = 100
"""How many workflows a list gives at most, unless told."""

EDGES_PAGE = 10_000
"""How many edges a list gives at most, unless told."""


def defer_graph(
    workflows: Sequence[WorkflowSpec], jobs: Iterable[JobSpec], json_dumps: JsonDumps = encode
) -> Statement[DeferredGraph]:
    """Make workflows, and defer jobs and the edges between them: all or nothing.

    Raises InvalidArguments when an argument can't be stored as JSON.
    """
    specs = "[" + ",".join(_workflow_json(workflow, json_dumps) for workflow in workflows) + "]"
    batch = "[" + ",".join(job_json(job, json_dumps) for job in jobs) + "]"
    return Statement("defer_graph", (specs, batch), _read_graph, savepoint=True)


def get_workflow(workflow_id: int) -> Statement[WorkflowInfo]:
    """The workflow. Raises WorkflowNotFound."""
    return Statement("get_workflow", (check_workflow_id(workflow_id),), partial(_read_one, workflow_id))


def list_workflows(
    name: str | None = None,
    status: WorkflowStatus | str | None = None,
    parent_id: int | None = None,
    roots: bool = False,
    limit: int | None = WORKFLOWS_PAGE,
    after: int | None = None,
) -> Statement[list[WorkflowInfo]]:
    """The workflows that all given filters fit, the newest first; `after` is the last id of the page before.

    With `roots` only those that are not nested in another.
    """
    its_status = None if status is None else WorkflowStatus(status).value
    return Statement("list_workflows", (name, its_status, parent_id, roots, after, limit), _read_all)


def list_workflow_jobs(
    workflow_id: int,
    status: Status | str | None = None,
    limit: int | None = PAGE_SIZE,
    after: int | None = None,
) -> Statement[list[Job]]:
    """The jobs of a workflow and of those nested in it, by id; `after` is the last id of the page before."""
    return list_jobs(status=status, limit=limit, after=after, workflow_id=workflow_id)


def list_workflow_edges(
    workflow_id: int,
    limit: int | None = EDGES_PAGE,
    after: tuple[int, int] | None = None,
) -> Statement[list[Edge]]:
    """The edges between jobs of a workflow and of those nested in it, by child, then parent.

    `after` is (child_id, parent_id) of the last one of the page before.
    """
    child, parent = (None, None) if after is None else after
    return Statement("list_workflow_edges", (check_workflow_id(workflow_id), child, parent, limit), _read_edges)


def cancel_workflow(workflow_id: int, abort: bool = True) -> Statement[WorkflowCancellation]:
    """Cancel what waits, and with `abort` ask what runs to stop. Raises WorkflowNotFound."""
    return Statement("cancel_workflow", (check_workflow_id(workflow_id), abort), _read_cancellation, savepoint=True)


def retry_workflow(workflow_id: int, mode: RetryMode | str = RetryMode.FAILED) -> Statement[int]:
    """Run jobs again that have ended; how many. Raises WorkflowNotFound, AlreadyEnqueued, WorkflowAlreadyRunning."""
    return Statement(
        "retry_workflow", (check_workflow_id(workflow_id), RetryMode(mode).value), read_value, savepoint=True
    )


def delete_workflow(workflow_id: int) -> Statement[int]:
    """Delete a workflow and its jobs; how many. Raises WorkflowNotFound."""
    return Statement("delete_workflow", (check_workflow_id(workflow_id),), read_value, savepoint=True)


def fold_workflows(workflow_ids: Sequence[int] | None = None, max_workflows: int = 100) -> Statement[bool]:
    """Bring the counts of workflows (None: of any) up to date and tell of those that have ended.

    True: there is more to fold, or somebody else was at it.
    """
    ids = None if workflow_ids is None else list(workflow_ids)
    return Statement("fold_workflows", (ids, max_workflows), read_value)


def _workflow_json(workflow: WorkflowSpec, json_dumps: JsonDumps) -> str:
    fields: dict[str, Any] = {"name": workflow.name}
    if workflow.unique:
        fields["unique"] = True
    if workflow.parent is not None:
        fields["parent"] = workflow.parent
    if workflow.parent_id is not None:
        fields["parent_id"] = workflow.parent_id
    return f'{encode(fields)[:-1]},"metadata":{dump(dict(workflow.metadata), json_dumps)}}}'


def _read_graph(rows: Sequence[Row], loads: JsonLoads) -> DeferredGraph:
    return DeferredGraph(workflow_ids=list(rows[0][0]), job_ids=list(rows[0][1]))


def _read_cancellation(rows: Sequence[Row], loads: JsonLoads) -> WorkflowCancellation:
    return WorkflowCancellation(cancelled=rows[0][0], abort_requested=rows[0][1])


def _read_edges(rows: Sequence[Row], loads: JsonLoads) -> list[Edge]:
    return [Edge(parent_id=row[0], child_id=row[1]) for row in rows]


def _read_one(workflow_id: int, rows: Sequence[Row], loads: JsonLoads) -> WorkflowInfo:
    if not rows:
        raise WorkflowNotFound(workflow_id=workflow_id)
    return _read_workflow(rows[0], loads)


def _read_all(rows: Sequence[Row], loads: JsonLoads) -> list[WorkflowInfo]:
    return [_read_workflow(row, loads) for row in rows]


def _read_workflow(row: Row, loads: JsonLoads) -> WorkflowInfo:
    (
        id_, name, parent_id, path, metadata, unique, status, total, blocked, doing, succeeded, failed, aborted,
        cancelled, upstream, not_needed, created_at, started_at, finished_at, cancel_requested,
    ) = row  # fmt: skip
    ended = succeeded + failed + aborted + cancelled + upstream + not_needed
    return WorkflowInfo(
        id=id_,
        name=name,
        parent_id=parent_id,
        path=tuple(path),
        metadata=loads(metadata),
        unique=unique,
        status=WorkflowStatus(status),
        counts={
            Status.BLOCKED: blocked,
            Status.TODO: total - blocked - doing - ended,
            Status.DOING: doing,
            Status.SUCCEEDED: succeeded,
            Status.FAILED: failed,
            Status.CANCELLED: cancelled + upstream + not_needed,
            Status.ABORTED: aborted,
        },
        cancel_kinds={CancelKind.MANUAL: cancelled, CancelKind.UPSTREAM: upstream, CancelKind.NOT_NEEDED: not_needed},
        total=total,
        created_at=utc(created_at),
        started_at=utc_or_none(started_at),
        finished_at=utc_or_none(finished_at),
        cancel_requested=cancel_requested,
    )
