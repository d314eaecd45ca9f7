"""What a `with app.workflow(...)` block collects, until it is sent as one statement."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from procrastinate_deps.exceptions import AlreadySent, NotSentYet, ProcrastinateException
from procrastinate_deps.tasks import JobDeferrer, Task
from procrastinate_deps.workflows.handle import Workflow

if TYPE_CHECKING:
    from procrastinate_deps.app import App
    from procrastinate_deps.workflows.builder import WorkflowBuilder
    from procrastinate_deps.workflows.links import ExistingJob, Part
    from procrastinate_deps.workflows.nodes import Node


class State(Enum):
    NEW = "new"
    OPEN = "open"
    SENT = "sent"
    GIVEN_UP = "given up"  # the block was left by an error
    NOT_SENT = "not sent"  # sending it failed


class Plan:
    """The jobs, workflows and edges of one block.

    Attributes
    ----------
    connection:
        The caller's, to send it on.
    nodes:
        The jobs to defer, in the order in which they were added.
    workflows:
        Those to make, each after the one that it is nested in.
    grown_id:
        The workflow that exists and grows by it; None: it makes one.
    existing:
        Jobs of that workflow, by their names.
    before_first:
        For each `part >> workflow`: what the first jobs of that workflow wait for.
    by_critical_path:
        Whether the longest remaining chain gets the first slots.
    """

    def __init__(
        self, app: App, *, connection: Any = None, by_critical_path: bool = False, grown_id: int | None = None
    ) -> None:
        self.app = app
        self.grown_id = grown_id
        self.connection = connection
        self.by_critical_path = by_critical_path
        self.state = State.NEW
        self.nodes: list[Node] = []
        self.workflows: list[WorkflowBuilder] = []
        self.existing: dict[str, ExistingJob] = {}
        self.before_first: list[tuple[Part, WorkflowBuilder]] = []
        self.left_by: str | None = None  # the nested workflow whose block ended with an error
        self._deferrers: dict[Task[..., Any, ...], JobDeferrer[...]] = {}

    def deferrer(self, job: object) -> JobDeferrer[...]:
        """What a job is made by, from what was given to `add`."""
        if isinstance(job, JobDeferrer):
            return job
        if not isinstance(job, Task):
            what = (
                "a task's function is given by its name in the module, where @app.task made it a task"
                if callable(job)
                else ""
            )
            raise TypeError(f"add takes a task, or what its configure(...) gives, not {job!r}{what and '; ' + what}")
        if job not in self._deferrers:
            self._deferrers[job] = job.deferrer()
        return self._deferrers[job]

    def open(self) -> None:
        if self.state is not State.NEW:
            raise AlreadySent(
                "a workflow is built in one `with` block: make another by app.workflow(...), or let this one grow()"
            )
        self.state = State.OPEN

    def check_open(self) -> None:
        if self.state is State.OPEN:
            return
        if self.state is State.SENT:
            raise AlreadySent(
                "the workflow was sent: add to it by workflow.grow(), or one job at once by "
                "app.get_workflow(id).add(...)"
            )
        if self.state is State.GIVEN_UP:
            raise ProcrastinateException("the block of this workflow ended with an error, and nothing of it was sent")
        if self.state is State.NOT_SENT:
            raise ProcrastinateException("sending this workflow failed: build another one")
        raise NotSentYet("a workflow is built inside of `with app.workflow(...) as wf:`, or `async with`")

    def check_own(self, owner: object, part: Part) -> None:
        """Raise where `part` belongs to another plan that was not sent."""
        if owner is not self:
            raise NotSentYet(
                f"{part} belongs to another workflow, which has not been sent: leave its block first, or add both to "
                "one workflow"
            )

    def check_existing(self, job: ExistingJob) -> None:
        if job.name is not None and not job.is_known:
            self.check_own(job.owner, job)

    def parent_workflow(self, parent: Part) -> Workflow:
        """`parent`, a whole workflow that a job of this plan can wait for: it exists, or is sent with it."""
        if not isinstance(parent, Workflow):
            raise TypeError(f"{parent!r} is nothing that a job can wait for")
        if not parent.exists:
            self.check_own(parent.plan, parent)
        return parent
