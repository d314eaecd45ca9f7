"""Building a workflow, or a part by which one grows: `with app.workflow("etl") as wf:`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Self

from procrastinate_deps.exceptions import DuplicateNode, NodeNotFound
from procrastinate_deps.jobs import WorkflowSpec
from procrastinate_deps.tasks import JobDeferrer, Task
from procrastinate_deps.validation import check_name, check_node
from procrastinate_deps.workflows.handle import Workflow
from procrastinate_deps.workflows.links import ExistingJob, Part, as_linkable
from procrastinate_deps.workflows.nodes import Node
from procrastinate_deps.workflows.plan import Plan, State
from procrastinate_deps.workflows.sending import send

if TYPE_CHECKING:
    from types import TracebackType

    from procrastinate_deps.app import App
    from procrastinate_deps.dependencies import Parent

D = ParamSpec("D")

CRITICAL_PATH = "critical_path"


class WorkflowBuilder(Workflow):
    """A workflow whose jobs are collected inside of a `with` (or `async with`) block, and sent when it is left.

    All goes as one statement: all of it is deferred, or nothing. Leaving the block by an error sends nothing.
    Afterwards it is the `Workflow` that it has made.
    """

    def __init__(
        self,
        plan: Plan,
        spec: WorkflowSpec | None,
        *,
        position: int | None = None,
        around: WorkflowBuilder | None = None,
        workflow_id: int | None = None,
    ) -> None:
        super().__init__(plan.app, workflow_id)
        self.plan: Plan = plan
        self.position = position  # among the new workflows of the plan; None: it exists, and grows
        self.around = around
        self.depth: int = 0 if around is None else around.depth + 1
        self._spec = spec
        self._nodes: dict[str, Node] = {}

    @property
    def spec(self) -> WorkflowSpec:
        if self._spec is None:
            raise TypeError(f"{self} exists already")
        return self._spec

    @property
    def name(self) -> str:
        return super().name if self._spec is None else self._spec.name

    @property
    def metadata(self) -> Mapping[str, Any]:
        return super().metadata if self._spec is None else self._spec.metadata

    def __getitem__(self, name: str) -> Node:
        """The node that was added with `configure(node=name)`. Raises NodeNotFound."""
        try:
            return self._nodes[name]
        except KeyError:
            pass
        names = ", ".join(map(repr, list(self._nodes)[:20])) or "none"
        grown = "" if self._spec is not None else "; those that it had before are given by existing(name)"
        raise NodeNotFound(f"no node named {name!r} was added to {self}; named ones: {names}{grown}")

    def __contains__(self, name: str) -> bool:
        """Whether a node was added under this name."""
        return name in self._nodes

    def add(self, job: Task[..., Any, D] | JobDeferrer[D], /, *args: D.args, **kwargs: D.kwargs) -> Node:
        """Add a job of a task, or of `task.configure(depends_on=..., run_when=..., node=..., ...)`, with its arguments.

        Returns
        -------
        The `Node`: other jobs can depend on it, and once the workflow was sent it has a `job_id`.

        Raises
        ------
        DuplicateNode:
            Another job of the workflow has the same name.
        NotSentYet:
            It depends on a part of another workflow that was not sent.
        AlreadySent:
            This one was.
        """
        plan = self.plan
        plan.check_open()
        deferrer = plan.deferrer(job)
        self._check(deferrer)
        node = Node(plan, self, len(plan.nodes), deferrer, deferrer.arguments(args, kwargs))
        for part in deferrer.parts:
            if isinstance(part, Node):
                node.wait_for(part)
            else:
                for end in as_linkable(part).ends():
                    node.wait_for(end)
        name = deferrer.spec.node
        if name is not None:
            if name in self._nodes:
                raise DuplicateNode(
                    f"{self} has two nodes named {name!r}; the first one is {self._nodes[name]!r}", node=name
                )
            self._nodes[name] = node
        plan.nodes.append(node)
        return node

    def workflow(
        self, name: str, *, metadata: Mapping[str, Any] | None = None, unique: bool = False
    ) -> WorkflowBuilder:
        """A workflow nested in this one, sent with it.

        Jobs are added to it as to this one, inside of the same block (a `with` of its own is possible, and not needed).
        As a parent it stands for all of its jobs, also those that are added while it runs. On the right of `>>` its
        first jobs wait.

        Parameters
        ----------
        name, metadata, unique:
            As for `App.workflow`.
        """
        self.plan.check_open()
        parent_id = self.id if self.exists else None
        spec = make_spec(name, metadata, unique, parent=self.position, parent_id=parent_id)
        inner = WorkflowBuilder(self.plan, spec, position=len(self.plan.workflows), around=self)
        self.plan.workflows.append(inner)
        return inner

    def existing(self, job: Parent | str) -> ExistingJob:
        """A job that exists, to be joined with new ones: by its id, as a `Job`, or by its name in the growing workflow.

        `node >> wf.existing("report")` lets it wait for `node` too, while it has not started.
        """
        self.plan.check_open()
        if not isinstance(job, str):
            (found,) = as_linkable(job).ends()
            if not isinstance(found, ExistingJob):
                raise TypeError(f"got {found!r}: pass a job's id, a Job, or the name of a node that exists already")
            return found
        if self.position is not None:
            raise NodeNotFound(
                f"{self} is new, so that it has no node named {job!r} yet; new ones are given by wf[{job!r}]"
            )
        check_node(job)
        return self.plan.existing.setdefault(job, ExistingJob(name=job, owner=self.plan))

    def wait_for(self, parent: Part) -> None:
        if self.exists:
            super().wait_for(parent)
        self.plan.check_open()
        self.plan.before_first.append((parent, self))

    def was_sent(self, workflow_id: int) -> None:
        self._id = workflow_id

    # -- the block

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._is_to_be_sent(error):
            try:
                self.app.job_manager.run(send(self.plan))
            finally:
                self._close()

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._is_to_be_sent(error):
            try:
                await self.app.job_manager.run_async(send(self.plan))
            finally:
                self._close()

    def _begin(self) -> None:
        if self.around is None:
            self.plan.open()

    def _is_to_be_sent(self, error: BaseException | None) -> bool:
        if error is None:
            return self.around is None
        if self.around is None:
            self.plan.state = State.GIVEN_UP
        else:
            self.plan.left_by = str(self)
        return False

    def _close(self) -> None:
        if self.plan.state is State.OPEN:
            self.plan.state = State.NOT_SENT

    def _check(self, deferrer: JobDeferrer[...]) -> None:
        if deferrer.connection is not None:
            raise ValueError(
                f"task {deferrer.spec.task_name!r}: connection= was given to configure, and a workflow is sent as a "
                "whole; give it to app.workflow(...) or grow(...)"
            )
        chosen = deferrer.workflow
        if chosen is None or chosen is self or (self.exists and getattr(chosen, "_id", chosen) == self._id):
            return
        raise ValueError(
            f"task {deferrer.spec.task_name!r}: configure(workflow={chosen!r}) is another workflow than {self}; "
            "add it there"
        )


def new_workflow(
    app: App,
    name: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    unique: bool = False,
    priority: str | None = None,
    connection: Any = None,
) -> WorkflowBuilder:
    """See `App.workflow`."""
    if priority not in (None, CRITICAL_PATH):
        raise ValueError(
            f"priority={priority!r}: pass {CRITICAL_PATH!r} or None; a job's own priority is given by "
            "configure(priority=...)"
        )
    plan = Plan(app, connection=connection, by_critical_path=priority is not None)
    builder = WorkflowBuilder(plan, make_spec(name, metadata, unique), position=0)
    plan.workflows.append(builder)
    return builder


def growing(app: App, workflow_id: int, connection: Any) -> WorkflowBuilder:
    """See `Workflow.grow`."""
    plan = Plan(app, connection=connection, grown_id=workflow_id)
    return WorkflowBuilder(plan, None, workflow_id=workflow_id)


def without_connection(
    job: Task[..., Any, D] | JobDeferrer[D],
) -> tuple[Task[..., Any, D] | JobDeferrer[D], Any]:
    """What a job is made by, and the connection that it was configured with apart."""
    if isinstance(job, JobDeferrer) and job.connection is not None:
        return replace(job, connection=None), job.connection
    return job, None


def make_spec(
    name: str,
    metadata: Mapping[str, Any] | None,
    unique: bool,
    *,
    parent: int | None = None,
    parent_id: int | None = None,
) -> WorkflowSpec:
    check_name(name, "name", "a workflow's")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata={metadata!r:.300}: pass a mapping of names to values")
    return WorkflowSpec(name=name, metadata=dict(metadata or {}), unique=unique, parent=parent, parent_id=parent_id)
