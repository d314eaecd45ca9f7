"""A graph of jobs, looked at: its layers, its critical path, which parents decided. Nothing here does I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.jobs import CancelKind, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

_RAN = frozenset({Status.SUCCEEDED, Status.FAILED, Status.ABORTED})
_UNSUCCESSFUL = frozenset({Status.FAILED, Status.ABORTED, Status.CANCELLED})


class CycleFoundError(ValueError):
    """There is no order in which parents come first; `cycle` are vertices of which each is a parent of the next."""

    def __init__(self, cycle: Sequence[int]) -> None:
        super().__init__(f"a cycle: {' → '.join(map(str, cycle))}")
        self.cycle = tuple(cycle)


def topological_order(parents: Sequence[Sequence[int]]) -> list[int]:
    """The vertices 0, 1, ... in an order in which parents come first, otherwise as near to their own as can be.

    Parameters
    ----------
    parents:
        Of each vertex.

    Raises
    ------
    CycleFoundError
    """
    new, open_, done = 0, 1, 2
    state = bytearray(len(parents))
    order: list[int] = []
    for start in range(len(parents)):
        if state[start] != new:
            continue
        state[start] = open_
        stack = [(start, iter(parents[start]))]
        while stack:
            vertex, rest = stack[-1]
            for parent in rest:
                if state[parent] == new:
                    state[parent] = open_
                    stack.append((parent, iter(parents[parent])))
                    break
                if state[parent] == open_:
                    path = [each for each, _ in stack]
                    raise CycleFoundError([parent, *reversed(path[path.index(parent) :])])
            else:
                stack.pop()
                state[vertex] = done
                order.append(vertex)
    return order


def longest_chains(parents: Sequence[Sequence[int]], order: Sequence[int], weights: Sequence[float]) -> list[float]:
    """For each vertex the weight of the heaviest chain that begins with it, its own included.

    Parameters
    ----------
    parents, order:
        As for and from `topological_order`.
    weights:
        Of each vertex.
    """
    longest = list(weights)
    for vertex in reversed(order):
        length = longest[vertex]
        for parent in parents[vertex]:
            longest[parent] = max(longest[parent], weights[parent] + length)
    return longest


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphJob:
    """As much of a job as its place in a graph is about; see `Job`."""

    id: int
    task_name: str
    status: Status
    created_at: datetime
    node: str | None = None
    workflow_id: int | None = None
    run_when: RunWhen = RunWhen.ALL_FINISHED
    cancel_kind: CancelKind | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    def run_s(self, now: datetime) -> float:
        """How long its last run took, or has taken so far; 0 for a job that has not started, or never ran."""
        if self.started_at is None or (self.status not in _RAN and self.status is not Status.DOING):
            return 0.0
        end = now if self.status is Status.DOING else self.finished_at
        return 0.0 if end is None else max(0.0, (end - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalJob:
    """A job of the critical path.

    `run_s` is how long it ran, `waited_s` how long it was ready before: for a worker, its time, its lock or its queue.
    """

    job: GraphJob
    run_s: float
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPath:
    """The chain of jobs whose runs took longest, and by how much the others could have taken longer.

    Attributes
    ----------
    jobs:
        The chain, first job first; empty where no job has run.
    run_s, waited_s:
        Its sums: the least time that the graph takes whatever the number of workers, and what was waited besides.
    slack_s:
        Of each job of the graph by its id: the seconds that its run could have taken more without a longer chain; 0
        for those of the critical path.
    """

    jobs: Sequence[CriticalJob]
    run_s: float
    waited_s: float
    slack_s: Mapping[int, float] = field(repr=False)


class Graph:
    """Jobs and the edges between them, as they were when they were read.

    Parameters
    ----------
    jobs:
        In the order in which they shall be shown.
    edges:
        Parent and child of each. Those from or to a job that isn't there are left out.
    """

    def __init__(self, jobs: Sequence[GraphJob], edges: Sequence[tuple[int, int]]) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.edges = [edge for edge in edges if edge[0] in self.jobs and edge[1] in self.jobs]

    @cached_property
    def statuses(self) -> dict[Status, int]:
        """How many jobs have each status, those that some have, in the order of a job's life."""
        counts = Counter(job.status for job in self.jobs.values())
        return {status: counts[status] for status in Status if counts[status]}

    @cached_property
    def layer(self) -> dict[int, int]:
        """Of each job the number of edges of the longest way to it: 0 without parents; a child's is always greater."""
        layers = [0] * len(self._ids)
        for vertex in self._order:
            for parent in self._parents[vertex]:
                layers[vertex] = max(layers[vertex], layers[parent] + 1)
        return dict(zip(self._ids, layers, strict=True))

    @property
    def layers(self) -> list[list[int]]:
        """The jobs' ids by layer."""
        found: list[list[int]] = [[] for _ in range(max(self.layer.values(), default=-1) + 1)]
        for job_id, layer in self.layer.items():
            found[layer].append(job_id)
        return found

    @cached_property
    def deciding(self) -> frozenset[tuple[int, int]]:
        """The edges by which it was decided when a job could start, or that it was cancelled.

        Of a job that could run it is the edge from the parent that ended last; of one cancelled by its rule those from
        the parents whose ends the rule didn't allow.
        """
        found: set[tuple[int, int]] = set()
        for vertex, parents in enumerate(self._parents):
            child = self.jobs[self._ids[vertex]]
            if not parents or child.status is Status.BLOCKED:
                continue
            ends = [self.jobs[self._ids[parent]] for parent in parents]
            if child.cancel_kind in (CancelKind.UPSTREAM, CancelKind.NOT_NEEDED):
                found.update((end.id, child.id) for end in ends if _stands_in_the_way(end, child))
            elif child.status is not Status.CANCELLED:
                times = [(end.finished_at, end.id) for end in ends if end.finished_at is not None]
                if times:
                    found.add((max(times)[1], child.id))
        return frozenset(found)

    def critical_path(self, now: datetime) -> CriticalPath:
        """The chain of jobs whose runs took longest, by their recorded times; a job that runs counts up to `now`."""
        runs = [self.jobs[job_id].run_s(now) for job_id in self._ids]
        after = longest_chains(self._parents, self._order, runs)
        before = [0.0] * len(runs)
        heaviest: list[int | None] = [None] * len(runs)
        for vertex in self._order:
            for parent in self._parents[vertex]:
                length = before[parent] + runs[parent]
                if heaviest[vertex] is None or length > before[vertex]:
                    before[vertex], heaviest[vertex] = length, parent
        total = max((before[vertex] + runs[vertex] for vertex in self._order), default=0.0)
        path: list[int] = []
        if total > 0:
            # of those that end with the longest the first: nothing behind it has run
            last = next((vertex for vertex in self._order if before[vertex] + runs[vertex] == total), None)
            while last is not None:
                path.append(last)
                last = heaviest[last]
        steps = [
            CriticalJob(job=self.jobs[self._ids[vertex]], run_s=runs[vertex], waited_s=self._waited_s(vertex))
            for vertex in reversed(path)
        ]
        return CriticalPath(
            jobs=steps,
            run_s=total,
            waited_s=sum(step.waited_s for step in steps),
            slack_s={
                job_id: max(0.0, total - before[vertex] - after[vertex]) for vertex, job_id in enumerate(self._ids)
            },
        )

    def _waited_s(self, vertex: int) -> float:
        job = self.jobs[self._ids[vertex]]
        if job.started_at is None:
            return 0.0
        ends = [self.jobs[self._ids[parent]].finished_at for parent in self._parents[vertex]]
        ready = max([job.created_at, *(end for end in ends if end is not None)])
        return max(0.0, (job.started_at - ready).total_seconds())

    @cached_property
    def _ids(self) -> list[int]:
        return list(self.jobs)

    @cached_property
    def _parents(self) -> list[list[int]]:
        position = {job_id: vertex for vertex, job_id in enumerate(self._ids)}
        parents: list[list[int]] = [[] for _ in self._ids]
        for parent, child in self.edges:
            parents[position[child]].append(position[parent])
        return parents

    @cached_property
    def _order(self) -> list[int]:
        return topological_order(self._parents)


def _stands_in_the_way(parent: GraphJob, child: GraphJob) -> bool:
    match child.run_when:
        case RunWhen.ALL_SUCCEEDED | RunWhen.ANY_SUCCEEDED:
            return parent.status in _UNSUCCESSFUL
        case RunWhen.NONE_FAILED:
            return parent.status in (Status.FAILED, Status.ABORTED) or parent.cancel_kind is CancelKind.UPSTREAM
        case RunWhen.ANY_FAILED | RunWhen.ALL_FAILED:
            return parent.status is Status.SUCCEEDED or parent.cancel_kind is CancelKind.NOT_NEEDED
        case RunWhen.ALL_FINISHED:
            return False
