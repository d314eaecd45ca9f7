"""How the parts of a graph are joined: `a >> [b, c] >> d`, `chain` and `group`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from procrastinate_deps.dependencies import DependsOn, Parent, WorkflowPart, normalise_depends_on
from procrastinate_deps.exceptions import NotSentYet

Links: TypeAlias = Parent | Iterable[Parent]


class Linkable(WorkflowPart):
    """What can stand beside a `>>`: a node, a workflow, a job that exists, a chain or a group.

    `left >> right`: every last part of the left is a parent of every first part of the right. What has nothing in it,
    as `[]`, is passed over.
    """

    __slots__ = ()

    @abstractmethod
    def starts(self) -> Sequence[Part]:
        """Its first parts: they wait where this stands on the right."""

    @abstractmethod
    def ends(self) -> Sequence[Part]:
        """Its last parts: they are waited for where this stands on the left."""

    def __rshift__(self, right: Links) -> Chain:
        return _join(self, as_linkable(right))

    def __rrshift__(self, left: Links) -> Chain:
        return _join(as_linkable(left), self)


class Part(Linkable):
    """One that is not made of others."""

    __slots__ = ()

    def starts(self) -> Sequence[Part]:
        return (self,)

    def ends(self) -> Sequence[Part]:
        return (self,)

    @abstractmethod
    def wait_for(self, parent: Part) -> None:
        """Become a child of `parent`."""


class Chain(Linkable):
    """Parts that were joined: what `>>`, `chain` and `group` give, to be joined further, or to be depended on.

    As a parent it stands for its last parts.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, starts: Sequence[Part], ends: Sequence[Part]) -> None:
        self._starts = starts
        self._ends = ends

    def __repr__(self) -> str:
        return f"<Chain from {_shown(self._starts)} to {_shown(self._ends)}>"

    def starts(self) -> Sequence[Part]:
        return self._starts

    def ends(self) -> Sequence[Part]:
        return self._ends

    def sent_ids(self) -> tuple[Sequence[int], Sequence[int]]:
        jobs: list[int] = []
        workflows: list[int] = []
        for end in self._ends:
            its_jobs, its_workflows = end.sent_ids()
            jobs += its_jobs
            workflows += its_workflows
        return jobs, workflows


class ExistingJob(Part):
    """A job that exists, by its id, or by its name in the workflow that grows (`existing("report")`)."""

    __slots__ = ("_id", "name", "owner")

    def __init__(self, job_id: int | None = None, *, name: str | None = None, owner: object = None) -> None:
        self._id = job_id
        self.name = name
        self.owner = owner  # the plan that finds out its id

    def __str__(self) -> str:
        return f"job {self._id}" if self.name is None else f"the existing node {self.name!r}"

    def __repr__(self) -> str:
        return f"<ExistingJob: {self}>"

    @property
    def is_known(self) -> bool:
        return self._id is not None

    @property
    def job_id(self) -> int:
        if self._id is None:
            raise NotSentYet(f"{self}: its id is read when the `with` block is left")
        return self._id

    def was_found(self, job_id: int) -> None:
        self._id = job_id

    def sent_ids(self) -> tuple[Sequence[int], Sequence[int]]:
        return (self.job_id,), ()

    def wait_for(self, parent: Part) -> None:
        precede = getattr(parent, "precede", None)
        if precede is None:
            if not isinstance(parent, ExistingJob):
                raise TypeError(
                    f"{self} exists already, and can't be told to wait for the whole of {parent}: join it with its jobs"
                )
            raise TypeError(
                f"{parent} and {self} both exist already: let one wait for the other by "
                "app.job_manager.add_dependencies(child, parents)"
            )
        precede(self)


def chain(*parts: Links) -> Chain:
    """Let each of `parts` wait for the one before: `chain(a, [b, c], d)` is `a >> [b, c] >> d`.

    Parameters
    ----------
    parts:
        Nodes, workflows, ids of jobs, chains, groups and lists of these; what has nothing in it is passed over.

    Returns
    -------
    What can be joined further: it begins with the first of them and ends with the last.
    """
    joined = Chain((), ())
    for part in parts:
        joined = _join(joined, as_linkable(part))
    return joined


def group(*parts: Links) -> Chain:
    """Take `parts` together, side by side: `group(a, b) >> group(c, d)` lets c and d each wait for both a and b.

    Parameters
    ----------
    parts:
        Nodes, workflows, ids of jobs, chains, groups and lists of these.
    """
    each = [as_linkable(part) for part in parts]
    starts = dict.fromkeys(start for part in each for start in part.starts())
    ends = dict.fromkeys(end for part in each for end in part.ends())
    return Chain(tuple(starts), tuple(ends))


def as_linkable(value: DependsOn) -> Linkable:
    """`value` as something to join. Raises TypeError for what is no part of a graph, as a task."""
    if isinstance(value, Linkable):
        return value
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return group(*value)
    if value is None:
        raise TypeError("got None: leave out what was not added")
    jobs = tuple(ExistingJob(job_id) for job_id in normalise_depends_on(value))
    return Chain(jobs, jobs)


def _join(left: Linkable, right: Linkable) -> Chain:
    starts, ends = left.starts(), left.ends()
    waiting, last = right.starts(), right.ends()
    for child in waiting:
        for parent in ends:
            child.wait_for(parent)
    return Chain(starts or waiting, last or ends)


def _shown(parts: Sequence[Part]) -> str:
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return (", ".join(map(str, parts[:3])) or "nothing") + more
