"""Workflows in workflows, growing ones, and priorities by the critical path, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import chain
from procrastinate_deps.exceptions import AlreadySent, CircularDependency, NodeNotFound
from procrastinate_deps.workflows import Workflow, WorkflowBuilder
from procrastinate_deps.workflows.arranging import MAX_RANK
from tests.unit.built_workflows import Sent, app, built, parents, slow, work, works

if TYPE_CHECKING:
    from collections.abc import Iterable

# -- nested workflows


def test_a_nested_workflow_as_a_parent() -> None:
    wf = app.workflow("etl", metadata={"day": 1}, unique=True)
    wf.plan.open()
    before = wf.add(work, n=0)
    inner = wf.workflow("inner", metadata={"x": 2})
    deeper = inner.workflow("deeper")
    inner.add(work, n=1)
    deeper.add(work, n=2)
    wf.add(work.configure(depends_on=[inner, before]), n=3)
    sent = Sent(wf)
    assert sent.workflows == [
        {"name": "etl", "unique": True, "metadata": {"day": 1}},
        {"name": "inner", "parent": 0, "metadata": {"x": 2}},
        {"name": "deeper", "parent": 1, "metadata": {}},
    ]
    assert [job["workflow"] for job in sent.jobs] == [0, 1, 2, 0]
    assert [job.get("after_workflows", []) for job in sent.jobs] == [[], [], [], [1]]
    assert (inner.id, deeper.id) == (101, 102)


def test_a_whole_workflow_comes_before_what_waits_for_it() -> None:
    wf = built()
    after = wf.add(work, n=0)
    inner = wf.workflow("inner")
    inner.workflow("deeper").add(work, n=1)
    inner.add(work, n=2)
    inner >> after
    assert [job["args"]["n"] for job in Sent(wf).jobs] == [2, 1, 0]


def test_a_nested_workflow_on_the_right() -> None:
    wf = built()
    a = wf.add(work, n=0)
    inner = wf.workflow("inner")
    b, c = inner.add(work, n=1), inner.add(work, n=2)
    d = inner.workflow("deeper").add(work, n=3)
    e = inner.workflow("deeper too").add(work, n=4)
    outside = wf.add(work, n=5)
    b >> c
    b >> d
    outside >> e
    a >> inner
    assert parents(wf) == {0: [], 1: [0], 2: [1], 3: [1], 4: [0, 5], 5: []}


def test_what_waits_for_a_workflow_inside_is_none_of_its_first() -> None:
    wf = built()
    before = wf.add(work, n=0)
    outer = wf.workflow("outer")
    inner = outer.workflow("inner")
    inner.add(work, n=1)
    inner >> outer.add(work, n=2)
    before >> outer
    assert Sent(wf).parents == {0: [], 1: [0], 2: []}  # and the whole of inner


def test_what_is_joined_inside_decides_which_are_the_first_outside() -> None:
    wf = built()
    before = wf.add(work, n=0)
    outer = wf.workflow("outer")
    inner = outer.workflow("inner")
    inner.add(work, n=2)
    before >> outer
    outer.add(work, n=1) >> inner
    assert Sent(wf).parents == {0: [], 1: [0], 2: [1]}


def test_workflows_one_after_the_other() -> None:
    wf = built()
    one, two, three = (wf.workflow(name) for name in ("one", "two", "three"))
    one >> two >> three
    for n, each in enumerate((three, two, one)):
        each.add(work, n=n)
    sent = Sent(wf)
    assert [(job["args"]["n"], job.get("after_workflows")) for job in sent.jobs] == [(2, None), (1, [1]), (0, [2])]


def test_a_nested_workflow_with_nothing_that_could_wait() -> None:
    wf = built()
    wf.add(work) >> wf.workflow("inner")
    with pytest.raises(ValueError, match="'inner' has no job that could wait for node 1"):
        Sent(wf)


def cycles_of_workflows() -> Iterable[Any]:
    def part_waits_for_the_whole(wf: WorkflowBuilder) -> None:
        inner = wf.workflow("inner")
        inner >> inner.add(work)

    def job_waits_for_its_own(wf: WorkflowBuilder) -> None:
        wf.add(work.configure(depends_on=wf))

    def job_waits_for_the_one_around(wf: WorkflowBuilder) -> None:
        inner = wf.workflow("inner")
        inner.workflow("deeper").add(work.configure(depends_on=inner))

    def two_wait_for_each_other(wf: WorkflowBuilder) -> None:
        one, two = wf.workflow("one"), wf.workflow("two")
        one.add(work)
        two.add(work)
        one >> two >> one

    return part_waits_for_the_whole, job_waits_for_its_own, job_waits_for_the_one_around, two_wait_for_each_other


@pytest.mark.parametrize("build", cycles_of_workflows())
def test_a_cycle_through_a_whole_workflow(build: Any) -> None:
    wf = built()
    build(wf)
    with pytest.raises(CircularDependency, match="workflow '"):
        Sent(wf)


def test_an_existing_workflow_as_a_parent() -> None:
    wf = built()
    a = wf.add(work)
    Workflow(app, 7) >> a
    assert Sent(wf).jobs[0]["depends_on_workflows"] == [7]
    with pytest.raises(AlreadySent, match="can't be told to wait as a whole"):
        built().add(work) >> Workflow(app, 7)


# -- growing


def growing() -> WorkflowBuilder:
    wf = Workflow(app, 7).grow()
    wf.plan.open()
    return wf


def test_growing() -> None:
    wf = growing()
    [wf.add(work, n=n) for n in range(2)] >> wf.existing("report")
    wf.workflow("inner").add(work.configure(depends_on=wf.existing("report")), n=2)
    sent = Sent(wf)
    assert [statement.name for statement in sent.asked] == ["find_nodes", "defer_graph"]
    assert sent.workflows == [{"name": "inner", "parent_id": 7, "metadata": {}}]
    one, two, three = sent.jobs
    assert (one["workflow_id"], one["before"], two["workflow_id"], two["before"]) == (7, [7], 7, [7])
    assert (three["workflow"], three["depends_on"]) == (0, [7])


def test_growing_between_several_that_exist() -> None:
    wf = growing()
    between = wf.add(work)
    before: list[Any] = [17, Workflow(app, 8), wf.existing("report"), 18, Workflow(app, 9)]
    before >> between >> [19, wf.existing(20)]
    (sent,) = Sent(wf).jobs
    assert sorted(sent["depends_on"]) == [7, 17, 18]
    assert (sent["depends_on_workflows"], sent["before"]) == ([8, 9], [19, 20])


def test_what_is_added_cannot_wait_for_all_of_what_it_belongs_to() -> None:
    wf = growing()
    with pytest.raises(CircularDependency, match=r"node 1 .* belongs to workflow 7, and would wait for all of it"):
        wf.add(work.configure(depends_on=Workflow(app, 7)))
    with pytest.raises(CircularDependency):
        wf >> wf.add(work)
    wf.workflow("inner") >> wf.add(work)
    assert len(Sent(wf).jobs) == 2


def test_growing_by_nothing_sends_nothing() -> None:
    wf = growing()
    parts: list[Any] = []
    parts >> wf.existing("report")
    assert Sent(wf).asked == []


def test_a_name_that_the_workflow_does_not_have() -> None:
    wf = growing()
    wf.add(work) >> wf.existing("reprot")
    with pytest.raises(NodeNotFound, match="workflow 7 has no node named 'reprot': nothing was sent"):
        Sent(wf)


def test_a_new_workflow_has_no_existing_names() -> None:
    with pytest.raises(NodeNotFound, match="is new"):
        built().existing("report")


# -- priorities


def priorities(wf: WorkflowBuilder, mean_run_s: dict[str, float]) -> dict[int, int]:
    return {job["args"]["n"]: job["priority"] for job in Sent(wf, mean_run_s).jobs}


def by_critical_path() -> WorkflowBuilder:
    wf = app.workflow("etl", priority="critical_path")
    wf.plan.open()
    return wf


def test_the_longest_remaining_chain_has_the_highest_priority() -> None:
    wf = by_critical_path()
    a, b, c, d, e = works(wf, 5)
    a >> b >> c
    d >> c
    assert e.name is None
    assert priorities(wf, {}) == {0: 2, 1: 1, 2: 0, 3: 1, 4: 0}


def test_by_what_tasks_take() -> None:
    wf = by_critical_path()
    a, b = works(wf, 2)
    a >> b
    quick = wf.add(slow.configure(task_kwargs={"n": 9}))
    assert quick.task_name == "slow"
    assert priorities(wf, {"work": 0.1, "slow": 60.0}) == {0: 1, 1: 0, 9: 2 + 5}


def test_a_whole_workflow_is_a_link_of_the_chain() -> None:
    wf = by_critical_path()
    inner = wf.workflow("inner")
    inner.add(work, n=0)
    wf.add(work, n=1)
    inner >> wf.add(work, n=2)
    assert priorities(wf, {}) == {0: 1, 1: 0, 2: 0}


def test_ranks_stay_small() -> None:
    wf = by_critical_path()
    chain(*works(wf, 5 * MAX_RANK))
    found = priorities(wf, {})
    assert (found[0], found[5 * MAX_RANK - 1]) == (MAX_RANK, 0)
    assert sorted(found.values(), reverse=True) == list(found.values())


def test_a_priority_that_can_not_be_higher() -> None:
    wf = by_critical_path()
    chain(*(wf.add(work.configure(priority=highest), n=n) for n, highest in enumerate((2**31 - 1, 2**31 - 2, 0))))
    assert priorities(wf, {}) == {0: 2**31 - 1, 1: 2**31 - 1, 2: 0}


def test_no_other_priority() -> None:
    with pytest.raises(ValueError, match="'critical_path' or None"):
        app.workflow("etl", priority="high")  # type: ignore[arg-type]


def test_without_it_nothing_is_asked() -> None:
    wf = built()
    works(wf, 2)
    assert [statement.name for statement in Sent(wf).asked] == ["defer_graph"]
