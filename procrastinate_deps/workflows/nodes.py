"""A job of a workflow, before it is sent and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.exceptions import AlreadySent, CircularDependency, NotSentYet
from procrastinate_deps.workflows.links import ExistingJob, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from procrastinate_deps.tasks import JobDeferrer
    from procrastinate_deps.workflows.handle import Workflow
    from procrastinate_deps.workflows.plan import Plan


class Node(Part):
    """A job of a workflow: what `workflow.add(...)` gives. It can be depended on, and joined by `>>`.

    Attributes
    ----------
    name:
        As `configure(node=...)` named it; None: it has no name.
    task_name:
        What it runs.
    job_id:
        Once the workflow was sent; reading it before raises `NotSentYet`.
    """

    # A large graph has many of these, and the garbage collector looks at whatever they refer to, again and again.
    __slots__ = (
        "before", "existing", "home", "ids", "kwargs", "parents", "plan", "position", "schedule_in", "sent_as", "spec",
        "whole",
    )  # fmt: skip

    def __init__(
        self, plan: Plan, home: Workflow, position: int, deferrer: JobDeferrer[...], kwargs: Mapping[str, object]
    ) -> None:
        self.plan = plan
        self.sent_as: int | None = None
        self.home = home
        self.position = position  # among the nodes of the plan
        self.spec = deferrer.spec
        self.schedule_in = deferrer.schedule_in
        self.kwargs = kwargs
        # what it waits for
        self.parents: list[Node] | tuple[()] = ()
        self.ids: Sequence[int] = deferrer.spec.depends_on or ()
        self.existing: Sequence[ExistingJob] = ()
        self.whole: Sequence[Workflow] = ()
        # what waits for it, of what exists
        self.before: Sequence[ExistingJob] = ()

    @property
    def name(self) -> str | None:
        return self.spec.node

    @property
    def task_name(self) -> str:
        return self.spec.task_name

    @property
    def job_id(self) -> int:
        if self.sent_as is None:
            raise NotSentYet(f"{self} has no job yet: its workflow is sent when the `with` block is left")
        return self.sent_as

    def __str__(self) -> str:
        return f"node {self.position + 1} ({self.task_name})" if self.name is None else f"node {self.name!r}"

    def __repr__(self) -> str:
        return f"<Node: {self}{'' if self.sent_as is None else f', job {self.sent_as}'}>"

    def sent_ids(self) -> tuple[Sequence[int], Sequence[int]]:
        return (self.job_id,), ()

    def was_sent(self, job_id: int) -> None:
        self.sent_as = job_id

    def wait_for(self, parent: Part) -> None:
        self._check_open()
        if isinstance(parent, Node):
            if parent.sent_as is not None:
                self.ids = [*self.ids, parent.sent_as]
            else:
                self.plan.check_own(parent.plan, parent)
                if self.parents:
                    self.parents.append(parent)
                else:
                    self.parents = [parent]
        elif isinstance(parent, ExistingJob):
            self.plan.check_existing(parent)
            self.existing = [*self.existing, parent]
        else:
            whole = self.plan.parent_workflow(parent)
            if whole.exists and self.home.exists and whole.id == self.home.id:
                raise CircularDependency(
                    f"{self} would wait for itself: it belongs to {whole}, and would wait for all of it"
                )
            self.whole = [*self.whole, whole]

    def precede(self, child: ExistingJob) -> None:
        """Let a job that exists already wait for this one."""
        self._check_open()
        self.plan.check_existing(child)
        self.before = [*self.before, child]

    def _check_open(self) -> None:
        if self.sent_as is not None:
            raise AlreadySent(
                f"{self} is job {self.sent_as} already: what jobs that exist wait for is told by "
                "app.job_manager.add_dependencies(child, parents)"
            )
        self.plan.check_open()
