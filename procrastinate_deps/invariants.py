"""What must hold in the database at any moment, as its function broken_invariants names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")

INVARIANTS = (
    "a job cancelled by its rule has the kind of its rule",
    "an edge joins two jobs",
    "a deleted parent is gone",
    "a deleted parent had a child that is there",
    "only a blocked job has counters",
    "counters belong to a job",
    "a job cancelled by its rule has no live parent",
    "a todo job that was not claimed has no live parent",
    "a blocked job that depends on a whole workflow waits for each live job of it",
    "a blocked job has counters",
    "the counters of a blocked job are right",
    "a blocked job has a live parent",
    "a running job holds its lock",
    "who holds a lock runs or may start",
    "a job parked for a lock waits for somebody",
    "changes of counts belong to a workflow",
    "the counts of a workflow are those of its jobs",
    "a live unique workflow has its name",
    "who depends on a whole workflow is a job",
    "progress is that of a job",
    "an event is that of a job",
)
"""In the order in which they are repaired: what others are counted from comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that is broken: by how many jobs, and the ids of the first five.

    Where the invariant is one of workflows, or of rows whose job is gone, it is these that are counted and named.
    """

    invariant: str
    jobs: int
    examples: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Of an invariant that was broken: how many jobs (or workflows) were mended, and the ids of the first five."""

    invariant: str
    jobs: int
    examples: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(Generic[P]):
    """A batch of a sweep: where the next one goes on (None: that was the last), and what was repaired, by invariant."""

    reached: P | None
    repaired: dict[str, list[int]]
