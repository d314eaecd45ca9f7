"""From the nodes of a block to what one statement sends: sorted, checked, with priorities."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from procrastinate_deps.exceptions import CircularDependency
from procrastinate_deps.graphs import CycleFoundError, longest_chains, topological_order
from procrastinate_deps.jobs import JobSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from procrastinate_deps.workflows.builder import WorkflowBuilder
    from procrastinate_deps.workflows.handle import Workflow
    from procrastinate_deps.workflows.nodes import Node
    from procrastinate_deps.workflows.plan import Plan

MAX_RANK = 1000
"""What the critical path adds to a priority at most: enough to tell chains apart, little enough to be read."""

MAX_PRIORITY = 2**31 - 1
"""The highest that a job can have."""

SHOWN_OF_A_CYCLE = 10


class Arrangement:
    """The nodes of a plan, sorted so that parents come first: `order`.

    Making it raises CircularDependency, which names the nodes of the cycle, and ValueError for `part >> workflow` where
    that workflow has no job that could wait.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._join_first_nodes()
        if _is_sorted(plan.nodes):
            self.order: Sequence[Node] = plan.nodes
            return
        try:
            self._sorted = topological_order(self._parents)
        except CycleFoundError as found:
            raise self._circular(found.cycle) from None
        self.order = [plan.nodes[vertex] for vertex in self._sorted if vertex < len(plan.nodes)]

    def job_specs(self, mean_run_s: Mapping[str, float]) -> Iterator[JobSpec]:
        """What to send of each node, in order. `mean_run_s`: of the tasks where it is known, for priorities."""
        ranks = self._ranks(mean_run_s) if self._plan.by_critical_path else None
        place = [0] * len(self._plan.nodes)
        for index, node in enumerate(self.order):
            place[node.position] = index
        for node in self.order:
            yield _spec(node, place, 0 if ranks is None else ranks[node.position])

    def _join_first_nodes(self) -> None:
        if not self._plan.before_first:
            return
        jobs, nested = _contents(self._plan)
        # What is nested deeper first: its joins decide which jobs are the first of the workflow around it.
        for parent, workflow in sorted(self._plan.before_first, key=lambda pair: -pair[1].depth):
            inside = set(_nested_in(workflow, nested))
            first = [
                node
                for each in inside
                for node in jobs[each]
                if not any(parent.home in inside for parent in node.parents)
                and not any(whole in inside for whole in node.whole)
            ]
            if not first:
                raise ValueError(f"{workflow} has no job that could wait for {parent}: add one, or leave out the >>")
            for node in first:
                node.wait_for(parent)

    @cached_property
    def _sorted(self) -> Sequence[int]:
        return range(len(self._plan.nodes))

    @cached_property
    def _parents(self) -> Sequence[Sequence[int]]:
        """Of the vertices: the nodes, and behind them the new workflows, whose parents are all of their jobs."""
        plan = self._plan
        parents = [[parent.position for parent in node.parents] for node in plan.nodes]
        if not any(node.whole for node in plan.nodes):
            return parents
        count = len(plan.nodes)
        for node in plan.nodes:
            parents[node.position] += [count + position for position in _positions(node.whole)]
        jobs, nested = _contents(plan)
        for workflow in plan.workflows:
            inner = [count + position for position in _positions(nested[workflow])]
            parents.append([node.position for node in jobs[workflow]] + inner)
        return parents

    def _ranks(self, mean_run_s: Mapping[str, float]) -> list[int]:
        """For each node the place of its longest remaining chain among those of all nodes; 0 for the shortest."""
        nodes = self._plan.nodes
        known = [mean_run_s[name] for name in {node.task_name for node in nodes} if name in mean_run_s]
        usual = sum(known) / len(known) if known else 1.0
        weights = [mean_run_s.get(node.task_name, usual) for node in nodes]
        weights += [0.0] * (len(self._parents) - len(nodes))
        remaining = [round(each, 6) for each in longest_chains(self._parents, self._sorted, weights)[: len(nodes)]]
        rank = {length: place for place, length in enumerate(sorted(set(remaining)))}
        highest = len(rank) - 1
        if highest > MAX_RANK:
            rank = {length: place * MAX_RANK // highest for length, place in rank.items()}
        return [rank[length] for length in remaining]

    def _circular(self, cycle: Sequence[int]) -> CircularDependency:
        count = len(self._plan.nodes)
        names = [
            str(self._plan.nodes[vertex] if vertex < count else self._plan.workflows[vertex - count])
            for vertex in cycle
        ]
        if len(names) > SHOWN_OF_A_CYCLE:
            names[SHOWN_OF_A_CYCLE - 1 : -1] = [f"{len(names) - SHOWN_OF_A_CYCLE} more"]
        return CircularDependency(
            f"nothing was sent, since these would wait for each other: {' → '.join(names)} (each for the one before)"
        )


def _is_sorted(nodes: Sequence[Node]) -> bool:
    """Whether parents come first already, as in most graphs: to see that takes a small part of sorting."""
    for node in nodes:
        if node.whole:
            return False
        for parent in node.parents:
            if parent.position >= node.position:
                return False
    return True


def _contents(plan: Plan) -> tuple[dict[Workflow, list[Node]], dict[Workflow, list[WorkflowBuilder]]]:
    """The jobs that each workflow has of its own, and the workflows that are nested in it."""
    jobs: dict[Workflow, list[Node]] = {each: [] for each in plan.workflows}
    nested: dict[Workflow, list[WorkflowBuilder]] = {each: [] for each in plan.workflows}
    for node in plan.nodes:
        jobs.setdefault(node.home, []).append(node)
    for each in plan.workflows:
        if each.around is not None:
            nested.setdefault(each.around, []).append(each)
    return jobs, nested


def _nested_in(workflow: WorkflowBuilder, nested: Mapping[Workflow, Sequence[WorkflowBuilder]]) -> list[Workflow]:
    """The workflow itself and those nested in it, at all depths."""
    found: list[Workflow] = []
    rest = [workflow]
    while rest:
        each = rest.pop()
        found.append(each)
        rest += nested[each]
    return found


def _positions(workflows: Iterable[Workflow]) -> list[int]:
    """The positions of those that are made by the same statement."""
    return [each.position for each in workflows if each.position is not None and not each.exists]


def _spec(node: Node, place: Sequence[int], rank: int) -> JobSpec:
    spec, home = node.spec, node.home
    ids = node.ids
    if node.existing:
        ids = [*ids, *(job.job_id for job in node.existing)]
    after = [place[parent.position] for parent in node.parents]
    whole = list(dict.fromkeys(node.whole)) if node.whole else ()
    # Not by dataclasses.replace: that takes three times as long.
    return JobSpec(
        task_name=spec.task_name,
        task_kwargs=node.kwargs,
        queue=spec.queue,
        priority=max(spec.priority, min(spec.priority + rank, MAX_PRIORITY)),
        lock=spec.lock,
        queueing_lock=spec.queueing_lock,
        scheduled_at=spec.scheduled_at,
        schedule_in=node.schedule_in,
        run_when=spec.run_when,
        depends_on=list(dict.fromkeys(ids)) if len(ids) > 1 else ids,
        after=list(dict.fromkeys(after)) if len(after) > 1 else after,
        before=list(dict.fromkeys(job.job_id for job in node.before)) if node.before else (),
        workflow_id=home.id if home.exists else None,
        workflow=None if home.exists else home.position,
        node=spec.node,
        depends_on_workflows=[each.id for each in whole if each.exists] if whole else (),
        after_workflows=_positions(whole) if whole else (),
    )
