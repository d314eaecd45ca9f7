"""Workflows: sent, looked at, cancelled, run again and deleted, by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.statements import EDGES_PAGE, WORKFLOWS_PAGE
from procrastinate_deps.verbs.base import Call, one
from procrastinate_deps.workflow_info import RetryMode, WorkflowCancellation, WorkflowInfo, WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from procrastinate_deps.jobs import JobSpec, WorkflowSpec
    from procrastinate_deps.jsontext import JsonDumps
    from procrastinate_deps.verbs.base import Steps
    from procrastinate_deps.workflow_info import DeferredGraph, Edge


def defer_graph(
    workflows: Sequence[WorkflowSpec], jobs: Iterable[JobSpec], connection: Any = None
) -> Call[DeferredGraph]:
    """Make workflows, and defer jobs and the edges between them, as one statement: all or nothing.

    Parameters
    ----------
    workflows:
        In an order in which a workflow comes before those nested in it.
    jobs:
        In an order in which parents come before their children.
    connection:
        A connection of your own: all of it becomes part of its transaction.

    Returns
    -------
    The ids of the workflows and of the jobs, in the order given.

    Raises
    ------
    AlreadyEnqueued, WorkflowAlreadyRunning, WorkflowNotFound, WorkflowCancelled, DuplicateNode, DependencyNotFound,
    CircularDependency, JobAlreadyStarted, InvalidArguments
    """

    def steps(json_dumps: JsonDumps) -> Steps[DeferredGraph]:
        deferred: DeferredGraph = yield statements.defer_graph(workflows, jobs, json_dumps)
        return deferred

    return Call(steps, connection)


def get_workflow(workflow_id: int, connection: Any = None) -> Call[WorkflowInfo]:
    """The workflow as it is now, with exact counts of its jobs. Raises WorkflowNotFound."""
    return one(statements.get_workflow(workflow_id), connection)


def list_workflows(
    name: str | None = None,
    status: WorkflowStatus | str | None = None,
    limit: int | None = WORKFLOWS_PAGE,
    after: int | None = None,
    parent_id: int | None = None,
    roots: bool = False,
    connection: Any = None,
) -> Call[list[WorkflowInfo]]:
    """The workflows that all given filters fit, the newest first.

    Parameters
    ----------
    status:
        "running", "succeeded", "failed" or "cancelled".
    limit:
        How many at most; None: all. Default: 100.
    after:
        Only workflows with a smaller id: pass the last one of the page before.
    parent_id:
        Only those nested in this one, one level down.
    roots:
        Only those that are not nested in another. Default: all.
    """
    return one(statements.list_workflows(name, status, parent_id, roots, limit, after), connection)


def list_workflow_edges(
    workflow_id: int, limit: int | None = EDGES_PAGE, after: Edge | None = None, connection: Any = None
) -> Call[list[Edge]]:
    """The edges between jobs of a workflow and of those nested in it, by child, then parent.

    Parameters
    ----------
    limit:
        How many at most; None: all. Default: 10,000.
    after:
        The last one of the page before.
    """
    last = None if after is None else (after.child_id, after.parent_id)
    return one(statements.list_workflow_edges(workflow_id, limit, last), connection)


def cancel_workflow(workflow_id: int, abort: bool = True, connection: Any = None) -> Call[WorkflowCancellation]:
    """Cancel the jobs of a workflow that wait, and ask those that run to stop; of those nested in it, too.

    It takes no more jobs until it is retried.

    Parameters
    ----------
    abort:
        Whether running jobs are asked to stop; otherwise they run to their end. Default: True.

    Returns
    -------
    How many jobs were cancelled, and how many were asked to stop.

    Raises
    ------
    WorkflowNotFound
    """
    return one(statements.cancel_workflow(workflow_id, abort), connection)


def retry_workflow(workflow_id: int, mode: RetryMode | str = RetryMode.FAILED, connection: Any = None) -> Call[int]:
    """Run jobs of a workflow again that have ended, and of those nested in it; running ones are left alone.

    Parameters
    ----------
    mode:
        "failed": those that failed, were aborted or were cancelled by hand; what was cancelled by its rule because of
        them is decided anew. "failed_and_downstream": these, and everything after them in the workflow, however it
        ended. "all": everything that has ended. Default: "failed".

    Returns
    -------
    How many jobs run again. One whose own rule is not met by parents that stay as they are is not among them.

    Raises
    ------
    WorkflowNotFound; AlreadyEnqueued when a queueing_lock is taken; WorkflowAlreadyRunning when it is unique, and
    another of its name is live
    """
    return one(statements.retry_workflow(workflow_id, mode), connection)


def delete_workflow(workflow_id: int, connection: Any = None) -> Call[int]:
    """Delete a workflow and those nested in it with all their jobs; how many jobs.

    A live job counts as cancelled for its children elsewhere. Raises WorkflowNotFound.
    """
    return one(statements.delete_workflow(workflow_id), connection)
