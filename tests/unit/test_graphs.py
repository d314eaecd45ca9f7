"""Layers, the critical path and who decided: on small graphs, and against brute force."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.graphs import CycleFoundError, Graph, GraphJob, longest_chains, topological_order
from procrastinate_deps.jobs import CancelKind, Status
from tests.unit.made_graphs import NOW, START, job


@st.composite
def graphs(draw: st.DrawFn, most: int = 8) -> tuple[list[list[int]], list[int]]:
    """The parents of each vertex, without cycles but in any order, and how many seconds each takes."""
    count = draw(st.integers(0, most))
    names = draw(st.permutations(range(count)))
    parents: list[list[int]] = [[] for _ in range(count)]
    for place in range(count):
        chosen = draw(st.lists(st.integers(0, place - 1), unique=True)) if place else []
        parents[names[place]] = [names[each] for each in chosen]
    return parents, draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))


def chains(parents: list[list[int]], vertex: int) -> list[list[int]]:
    """All chains that end with a vertex, wherever they begin."""
    return [[vertex], *([*chain, vertex] for parent in parents[vertex] for chain in chains(parents, parent))]


def ran(parents: list[list[int]], seconds: list[int]) -> Graph:
    """As if each job had started as soon as its parents had ended."""
    jobs: dict[int, GraphJob] = {}
    for vertex in topological_order(parents):
        ends = [jobs[parent].finished_at for parent in parents[vertex]]
        start = max(((end - START).total_seconds() for end in ends if end is not None), default=0.0)
        jobs[vertex] = job(vertex, start, start + seconds[vertex])
    edges = [(parent, child) for child, its in enumerate(parents) for parent in its]
    return Graph([jobs[vertex] for vertex in sorted(jobs)], edges)


@given(graphs())
def test_parents_come_first(drawn: tuple[list[list[int]], list[int]]) -> None:
    parents, _ = drawn
    order = topological_order(parents)
    assert sorted(order) == list(range(len(parents)))
    assert all(order.index(parent) < order.index(child) for child, its in enumerate(parents) for parent in its)


def test_an_order_that_is_right_stays() -> None:
    assert topological_order([[], [], [0], [1, 2]]) == [0, 1, 2, 3]


@given(graphs(), st.data())
def test_a_cycle_is_found(drawn: tuple[list[list[int]], list[int]], data: st.DataObject) -> None:
    parents, _ = drawn
    found = [chain for vertex in range(len(parents)) for chain in chains(parents, vertex)]
    if not found:
        return
    closed = data.draw(st.sampled_from(found))
    parents[closed[0]].append(closed[-1])
    with pytest.raises(CycleFoundError) as caught:
        topological_order(parents)
    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert all(parent in parents[child] for parent, child in pairwise(cycle))


@given(graphs())
def test_longest_chains_by_brute_force(drawn: tuple[list[list[int]], list[int]]) -> None:
    parents, seconds = drawn
    every = [chain for vertex in range(len(parents)) for chain in chains(parents, vertex)]
    found = longest_chains(parents, topological_order(parents), seconds)
    for vertex, length in enumerate(found):
        assert length == max(sum(seconds[each] for each in chain) for chain in every if chain[0] == vertex)


@given(graphs())
def test_layers_respect_edges(drawn: tuple[list[list[int]], list[int]]) -> None:
    parents, seconds = drawn
    graph = ran(parents, seconds)
    for child, its in enumerate(parents):
        expected = max((graph.layer[parent] + 1 for parent in its), default=0)
        assert graph.layer[child] == expected
    assert sorted(each for layer in graph.layers for each in layer) == list(range(len(parents)))
    assert all(layer for layer in graph.layers)


@given(graphs())
def test_the_critical_path_is_the_longest_chain(drawn: tuple[list[list[int]], list[int]]) -> None:
    parents, seconds = drawn
    found = ran(parents, seconds).critical_path(NOW)
    lengths = [sum(seconds[v] for v in chain) for vertex in range(len(parents)) for chain in chains(parents, vertex)]
    assert found.run_s == max(lengths, default=0)
    path = [step.job.id for step in found.jobs]
    assert sum(seconds[each] for each in path) == found.run_s
    assert all(parent in parents[child] for parent, child in pairwise(path))
    assert found.waited_s == 0  # each had started at once
    assert bool(path) == (found.run_s > 0)


@given(graphs())
def test_slack_is_what_a_job_could_have_taken_more(drawn: tuple[list[list[int]], list[int]]) -> None:
    parents, seconds = drawn
    found = ran(parents, seconds).critical_path(NOW)
    assert all(found.slack_s[step.job.id] == 0 for step in found.jobs)
    for vertex, slack in found.slack_s.items():
        for more, expected in ((slack, found.run_s), (slack + 1, found.run_s + 1)):
            longer = [taken + more * (each == vertex) for each, taken in enumerate(seconds)]
            assert ran(parents, longer).critical_path(NOW).run_s == expected  # type: ignore[arg-type]


def test_what_was_waited_on_the_critical_path() -> None:
    graph = Graph([job(1, 2, 5), job(2, 0, 1), job(3, 6.5, 8)], [(1, 3), (2, 3)])
    found = graph.critical_path(NOW)
    assert [(step.job.id, step.run_s, step.waited_s) for step in found.jobs] == [(1, 3, 2), (3, 1.5, 1.5)]
    assert (found.run_s, found.waited_s) == (4.5, 3.5)
    assert found.slack_s == {1: 0, 2: 2, 3: 0}


def test_a_job_that_runs_counts_up_to_now() -> None:
    found = Graph([job(1, 0, 5), job(2, 990)], [(1, 2)]).critical_path(NOW)
    assert [step.run_s for step in found.jobs] == [5, 10]


def test_a_job_that_never_ran_takes_no_time() -> None:
    cancelled = job(1, finished=900, status=Status.CANCELLED)
    again = job(2, 3, status=Status.TODO)  # it started once, and was put back
    found = Graph([cancelled, again], []).critical_path(NOW)
    assert (found.jobs, found.run_s) == ([], 0)


def test_an_empty_graph() -> None:
    graph = Graph([], [])
    assert (graph.layers, graph.statuses, graph.deciding) == ([], {}, frozenset())
    assert graph.critical_path(NOW).jobs == []


def test_edges_to_jobs_that_are_not_there_are_left_out() -> None:
    graph = Graph([job(1), job(2)], [(1, 2), (1, 3), (0, 1)])
    assert graph.edges == [(1, 2)]


# -- who decided


def test_the_parent_that_ended_last_decided() -> None:
    graph = Graph([job(1, 0, 5), job(2, 0, 7), job(3, 7.5, 8)], [(1, 3), (2, 3)])
    assert graph.deciding == {(2, 3)}


def test_nothing_is_decided_for_a_blocked_job() -> None:
    graph = Graph([job(1, 0, 5), job(2, 0), job(3, status=Status.BLOCKED)], [(1, 3), (2, 3)])
    assert graph.deciding == frozenset()


FAILED: dict[str, Any] = {"status": Status.FAILED}
NOT_NEEDED: dict[str, Any] = {"status": Status.CANCELLED, "cancel_kind": CancelKind.NOT_NEEDED}
UPSTREAM: dict[str, Any] = {"status": Status.CANCELLED, "cancel_kind": CancelKind.UPSTREAM}
MANUAL: dict[str, Any] = {"status": Status.CANCELLED, "cancel_kind": CancelKind.MANUAL}


@pytest.mark.parametrize(
    ("rule", "decided_by"),
    [
        (RunWhen.ALL_SUCCEEDED, {2, 3, 4, 5}),
        (RunWhen.ANY_SUCCEEDED, {2, 3, 4, 5}),
        (RunWhen.NONE_FAILED, {2, 4}),
        (RunWhen.ALL_FAILED, {1, 3}),
        (RunWhen.ANY_FAILED, {1, 3}),
    ],
)
def test_those_decided_whose_ends_the_rule_did_not_allow(rule: RunWhen, decided_by: set[int]) -> None:
    ends: list[dict[str, Any]] = [{}, FAILED, NOT_NEEDED, UPSTREAM, MANUAL]
    parents = [job(n, 0, n, **end) for n, end in enumerate(ends, 1)]
    kind = CancelKind.NOT_NEEDED if "fail" in rule and rule != RunWhen.NONE_FAILED else CancelKind.UPSTREAM
    child = job(9, finished=9, status=Status.CANCELLED, cancel_kind=kind, run_when=rule)
    graph = Graph([*parents, child], [(parent.id, 9) for parent in parents])
    assert {parent for parent, _ in graph.deciding} == decided_by


def test_one_cancelled_by_hand_was_decided_by_no_parent() -> None:
    graph = Graph([job(1, 0, 1), job(2, finished=2, **MANUAL)], [(1, 2)])
    assert graph.deciding == frozenset()
