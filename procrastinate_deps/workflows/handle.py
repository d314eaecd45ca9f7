"""A workflow that exists: what it is, what can be done with it, and how it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec

from procrastinate_deps import drawing, statements
from procrastinate_deps.exceptions import AlreadySent, NotReadYet, NotSentYet
from procrastinate_deps.graphs import CriticalPath, Graph, GraphJob
from procrastinate_deps.statements import EDGES_PAGE, PAGE_SIZE
from procrastinate_deps.times import utc_now
from procrastinate_deps.verbs.base import Call, Steps, one
from procrastinate_deps.workflow_info import (
    Edge,
    RetryMode,
    WorkflowCancellation,
    WorkflowInfo,
    WorkflowStatus,
)
from procrastinate_deps.workflows.links import Part
from procrastinate_deps.workflows.verbs import AsyncMethod, SyncMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import TypeVar

    from procrastinate_deps.app import App
    from procrastinate_deps.jobs import Job, Status
    from procrastinate_deps.jsontext import JsonDumps
    from procrastinate_deps.tasks import JobDeferrer, Task
    from procrastinate_deps.workflows.builder import WorkflowBuilder
    from procrastinate_deps.workflows.nodes import Node
    from procrastinate_deps.workflows.plan import Plan

    T = TypeVar("T")

D = ParamSpec("D")


def _refresh(workflow: Workflow, connection: Any = None) -> Call[WorkflowInfo]:
    """Read the workflow again: `info`, `status`, `counts`, `progress`, ... are from then on as they were then.

    Raises WorkflowNotFound.
    """

    def steps(json_dumps: JsonDumps) -> Steps[WorkflowInfo]:
        info: WorkflowInfo = yield statements.get_workflow(workflow.id)
        workflow.was_read(info)
        return info

    return Call(steps, connection)


def _jobs(
    workflow: Workflow,
    status: Status | str | None = None,
    limit: int | None = PAGE_SIZE,
    after: int | None = None,
    connection: Any = None,
) -> Call[list[Job]]:
    """The jobs of the workflow, and of those nested in it, by id.

    Parameters
    ----------
    status:
        Only those. Default: all.
    limit:
        How many at most; None: all. Default: 1000.
    after:
        Only jobs with a greater id: pass the last one of the page before.
    """
    found = statements.list_jobs(status=status, limit=limit, after=after, workflow_id=workflow.id)
    return one(found, connection)


def _edges(
    workflow: Workflow, limit: int | None = EDGES_PAGE, after: Edge | None = None, connection: Any = None
) -> Call[list[Edge]]:
    """The edges between jobs of the workflow, and of those nested in it, by child, then parent.

    Parameters
    ----------
    limit:
        How many at most; None: all. Default: 10,000.
    after:
        The last one of the page before.
    """
    last = None if after is None else (after.child_id, after.parent_id)
    return one(statements.list_workflow_edges(workflow.id, limit, last), connection)


def _cancel(workflow: Workflow, abort: bool = True, connection: Any = None) -> Call[WorkflowCancellation]:
    """Cancel the jobs that wait, and ask those that run to stop; of the workflows nested in it, too.

    Until it is retried nothing can be added to it.

    Parameters
    ----------
    abort:
        Whether running jobs are asked to stop. Default: yes; else they run to their end.

    Returns
    -------
    How many jobs were `cancelled`, and of how many `abort_requested`.

    Raises
    ------
    WorkflowNotFound
    """
    return one(statements.cancel_workflow(workflow.id, abort), connection)


def _retry(workflow: Workflow, mode: RetryMode | str = RetryMode.FAILED, connection: Any = None) -> Call[int]:
    """Run jobs of the workflow again that have ended; running ones are left alone.

    Parameters
    ----------
    mode:
        "failed": what failed, was aborted or was cancelled by hand; what was cancelled because of these is decided
        anew. "failed_and_downstream": these, and everything after them in the workflow, however it ended. "all":
        everything that has ended. Default: "failed".

    Returns
    -------
    How many jobs will run again.

    Raises
    ------
    WorkflowNotFound; AlreadyEnqueued where a queueing lock is taken; WorkflowAlreadyRunning where it is unique and
    another one of its name is live.
    """
    return one(statements.retry_workflow(workflow.id, mode), connection)


def _delete(workflow: Workflow, connection: Any = None) -> Call[int]:
    """Delete the workflow, its jobs, and what is nested in it; how many jobs. Raises WorkflowNotFound."""
    return one(statements.delete_workflow(workflow.id), connection)


def _get_graph(workflow: Workflow, connection: Any = None) -> Call[Graph]:
    """Its jobs and edges, those of nested workflows included, to be analysed: see `procrastinate_deps.graphs.Graph`."""
    return Call(_read_graph(workflow.id), connection)


def _critical_path(workflow: Workflow, connection: Any = None) -> Call[CriticalPath]:
    """The chain of jobs whose runs took longest by the recorded times, and every other job's slack."""
    return _of_graph(workflow, lambda graph, now: graph.critical_path(now), connection)


def _to_mermaid(
    workflow: Workflow,
    max_nodes: int = drawing.MAX_NODES,
    max_edges: int = drawing.MAX_EDGES,
    direction: str = "LR",
    connection: Any = None,
) -> Call[str]:
    """The graph as a Mermaid flowchart; see `procrastinate_deps.drawing.to_mermaid`."""

    def render(graph: Graph, now: datetime) -> str:
        return drawing.to_mermaid(graph, max_nodes=max_nodes, max_edges=max_edges, direction=direction)

    return _of_graph(workflow, render, connection)


def _to_dot(
    workflow: Workflow,
    max_nodes: int = drawing.MAX_NODES,
    max_edges: int = drawing.MAX_EDGES,
    direction: str = "LR",
    connection: Any = None,
) -> Call[str]:
    """The graph in Graphviz' language; see `procrastinate_deps.drawing.to_dot`."""

    def render(graph: Graph, now: datetime) -> str:
        return drawing.to_dot(graph, max_nodes=max_nodes, max_edges=max_edges, direction=direction)

    return _of_graph(workflow, render, connection)


def _to_json(
    workflow: Workflow,
    max_nodes: int = drawing.MAX_NODES,
    max_edges: int = drawing.MAX_EDGES,
    connection: Any = None,
) -> Call[str]:
    """The graph as JSON: nodes, edges, layers, statuses, critical path; see `procrastinate_deps.drawing.to_dict`."""

    def render(graph: Graph, now: datetime) -> str:
        return drawing.to_json(graph, now, max_nodes=max_nodes, max_edges=max_edges)

    return _of_graph(workflow, render, connection)


def _of_graph(workflow: Workflow, what: Callable[[Graph, datetime], T], connection: Any) -> Call[T]:
    read = _read_graph(workflow.id)

    def steps(json_dumps: JsonDumps) -> Steps[T]:
        graph = yield from read(json_dumps)
        return what(graph, utc_now())

    return Call(steps, connection)


def _read_graph(workflow_id: int) -> Callable[[JsonDumps], Steps[Graph]]:
    def steps(json_dumps: JsonDumps) -> Steps[Graph]:
        # raises WorkflowNotFound: what has no jobs may have none, or not be there
        yield statements.get_workflow(workflow_id)
        # Not by pages: each of them would sort all that comes behind it, too.
        jobs: list[GraphJob] = yield statements.workflow_graph_jobs(workflow_id)
        edges: list[Edge] = yield statements.list_workflow_edges(workflow_id, limit=None)
        return Graph(jobs, [(edge.parent_id, edge.child_id) for edge in edges])

    return steps


class Workflow(Part):
    """A workflow: what `app.get_workflow(id)` and `context.workflow` give, and a `with app.workflow(...)` block leaves.

    What has a name without a verb (`status`, `counts`, `progress`, ...) is as it was when the workflow was last read:
    by `get_workflow` or `refresh`. What does I/O is a method, in two forms, `name` and `name_async`; each takes a
    `connection` of your own, to be part of its transaction.

    Where jobs can be told to depend on something, a workflow stands for all of its jobs, those that are added while it
    runs included.
    """

    plan: Plan | None = None
    position: int | None = None

    def __init__(self, app: App, workflow_id: int | None, info: WorkflowInfo | None = None) -> None:
        self.app = app
        self._id = workflow_id
        self._info = info

    def __str__(self) -> str:
        if self._id is None:
            return f"workflow {self.name!r}"
        return f"workflow {self._id}" if self._info is None else f"workflow {self._id} ({self._info.name!r})"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    @property
    def exists(self) -> bool:
        """Whether it has an id: always, but for one that is being built."""
        return self._id is not None

    @property
    def id(self) -> int:
        if self._id is None:
            raise NotSentYet(f"{self} has no id yet: it is sent when its `with` block is left")
        return self._id

    # -- as it was when it was last read

    @property
    def info(self) -> WorkflowInfo:
        """All that was read of it. Raises NotReadYet."""
        if self._info is None:
            raise NotReadYet(f"{self} was not read yet: call refresh(), or await refresh_async(), first")
        return self._info

    def was_read(self, info: WorkflowInfo) -> None:
        self._info = info

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.info.metadata

    @property
    def status(self) -> WorkflowStatus:
        """running, succeeded, failed or cancelled."""
        return self.info.status

    @property
    def counts(self) -> Mapping[Status, int]:
        """How many of its jobs have each status, those of nested workflows included."""
        return self.info.counts

    @property
    def progress(self) -> float:
        """How much of it has ended, from 0 to 1."""
        return self.info.progress

    @property
    def started_at(self) -> datetime | None:
        """When its first job was claimed."""
        return self.info.started_at

    @property
    def finished_at(self) -> datetime | None:
        """When its last job ended."""
        return self.info.finished_at

    # -- what does I/O

    refresh = SyncMethod(_refresh)
    refresh_async = AsyncMethod(_refresh)
    jobs = SyncMethod(_jobs)
    jobs_async = AsyncMethod(_jobs)
    edges = SyncMethod(_edges)
    edges_async = AsyncMethod(_edges)
    cancel = SyncMethod(_cancel)
    cancel_async = AsyncMethod(_cancel)
    retry = SyncMethod(_retry)
    retry_async = AsyncMethod(_retry)
    delete = SyncMethod(_delete)
    delete_async = AsyncMethod(_delete)
    get_graph = SyncMethod(_get_graph)
    get_graph_async = AsyncMethod(_get_graph)
    critical_path = SyncMethod(_critical_path)
    critical_path_async = AsyncMethod(_critical_path)
    to_mermaid = SyncMethod(_to_mermaid)
    to_mermaid_async = AsyncMethod(_to_mermaid)
    to_dot = SyncMethod(_to_dot)
    to_dot_async = AsyncMethod(_to_dot)
    to_json = SyncMethod(_to_json)
    to_json_async = AsyncMethod(_to_json)

    async def wait_async(self, timeout: float | None = None, *, raise_on_failure: bool = True) -> WorkflowStatus:  # noqa: ASYNC109
        """Wait until all of its jobs have ended, those of nested workflows included.

        Parameters
        ----------
        timeout:
            Seconds to wait at most. Default: for as long as it takes. 0: look once.
        raise_on_failure:
            Whether a workflow that has failed or was cancelled raises JobFailed. Default: True.

        Returns
        -------
        How it has ended; `info` and the like are from then on as they were at its end.

        Raises
        ------
        JobFailed:
            It has not succeeded: with the error of the first of its jobs that failed, else was aborted, else was
            cancelled.
        TimeoutError:
            It has not ended in time.
        EndlessWait:
            Called in one of its own jobs.
        WorkflowNotFound:
            It was deleted.
        """
        self.was_read(await self.app.wait_for_workflow_async(self.id, timeout, raise_on_failure=raise_on_failure))
        return self.status

    def wait(self, timeout: float | None = None, *, raise_on_failure: bool = True) -> WorkflowStatus:
        """The same as `wait_async`, for code that is not async."""
        self.was_read(self.app.wait_for_workflow(self.id, timeout, raise_on_failure=raise_on_failure))
        return self.status

    # -- growing

    def grow(self, connection: Any = None) -> WorkflowBuilder:
        """Add jobs, and let jobs that wait depend on them, as one statement: `with workflow.grow() as wf:`.

        In the block it is as with `App.workflow`; besides, `wf.existing("report")` is a job that the workflow has
        already: `parts >> wf.existing("report")` lets it wait for `parts` too, while it has not started.

        Parameters
        ----------
        connection:
            A connection of your own: the jobs become part of its transaction.

        Raises
        ------
        On leaving the block, and then nothing was added: JobAlreadyStarted, CircularDependency, WorkflowCancelled,
        WorkflowNotFound, NodeNotFound, DuplicateNode, AlreadyEnqueued, DependencyNotFound.
        """
        # The builder is a workflow, and imports this.
        from procrastinate_deps.workflows.builder import growing

        return growing(self.app, self.id, connection)

    def add(self, job: Task[..., Any, D] | JobDeferrer[D], /, *args: D.args, **kwargs: D.kwargs) -> Node:
        """Defer one job that belongs to the workflow, at once.

        Parameters
        ----------
        job:
            A task, or what `task.configure(...)` gives.
        args, kwargs:
            The job's arguments.

        Returns
        -------
        Its `Node`, which has a `job_id`.

        Raises
        ------
        See `grow`.
        """
        growth, alone = self._growth_for(job)
        with growth:
            return growth.add(alone, *args, **kwargs)

    async def add_async(self, job: Task[..., Any, D] | JobDeferrer[D], /, *args: D.args, **kwargs: D.kwargs) -> Node:
        """`add` for async code."""
        growth, alone = self._growth_for(job)
        async with growth:
            return growth.add(alone, *args, **kwargs)

    def _growth_for(
        self, job: Task[..., Any, D] | JobDeferrer[D]
    ) -> tuple[WorkflowBuilder, Task[..., Any, D] | JobDeferrer[D]]:
        """A growth by one job, on the connection that the job is configured with."""
        from procrastinate_deps.workflows.builder import growing, without_connection

        deferrer, connection = without_connection(job)
        return growing(self.app, self.id, connection), deferrer

    # -- as a part of a graph

    def sent_ids(self) -> tuple[Sequence[int], Sequence[int]]:
        return (), (self.id,)

    def wait_for(self, parent: Part) -> None:
        raise AlreadySent(
            f"{self} exists already, and can't be told to wait as a whole for {parent}: let its jobs wait, by "
            "grow() and existing(...)"
        )
