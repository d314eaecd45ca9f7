"""What a workflow's block collects, and what it makes of it, before anything is sent."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from procrastinate_deps import Blueprint, chain, group
from procrastinate_deps.exceptions import (
    AlreadySent,
    AppNotOpen,
    CircularDependency,
    DuplicateNode,
    InvalidArguments,
    NodeNotFound,
    NotReadYet,
    NotSentYet,
    ProcrastinateException,
    UnboundTaskError,
)
from procrastinate_deps.jobs import JobSpec
from procrastinate_deps.workflows import Workflow
from tests.unit.built_workflows import Sent, app, built, parents, slow, work, works

# -- joining


def test_depends_on_takes_a_node_or_several() -> None:
    wf = built()
    a, b = wf.add(work, n=0), wf.add(work, n=1)
    wf.add(work.configure(depends_on=a), n=2)
    wf.add(work.configure(depends_on=[a, b, a]), n=3)
    wf.add(work.configure(depends_on=(each for each in (a, 55, b))), n=4)
    wf.add(work.configure(depends_on=group(a, b)), n=5)
    sent = Sent(wf)
    assert sent.parents == {0: [], 1: [], 2: [0], 3: [0, 1], 4: [0, 1], 5: [0, 1]}
    assert sent.jobs[4]["depends_on"] == [55]


def test_arrows() -> None:
    wf = built()
    a, b, c, d = works(wf, 4)
    a >> [b, c] >> d
    assert parents(wf) == {0: [], 1: [0], 2: [0], 3: [1, 2]}


def test_a_list_on_the_left() -> None:
    wf = built()
    a, b, c = works(wf, 3)
    [a, b] >> c
    assert parents(wf) == {0: [], 1: [], 2: [0, 1]}


def test_every_last_of_the_left_is_a_parent_of_every_first_of_the_right() -> None:
    wf = built()
    a, b, c, d, e, f = works(wf, 6)
    group(chain(a, b), c) >> group(d, chain(e, f))
    assert parents(wf) == {0: [], 1: [0], 2: [], 3: [1, 2], 4: [1, 2], 5: [4]}


def test_chains_begin_with_their_first_and_end_with_their_last() -> None:
    wf = built()
    a, b, c, d, e = works(wf, 5)
    middle = chain(b, c, d)
    a >> middle
    middle >> e
    assert parents(wf) == {0: [], 1: [0], 2: [1], 3: [2], 4: [3]}


@pytest.mark.parametrize("nothing", [[], (), group()])
def test_what_has_nothing_in_it_is_passed_over(nothing: Any) -> None:
    wf = built()
    a, b, c, d = works(wf, 4)
    a >> nothing >> b
    chain(nothing, c, nothing, d, nothing)
    [] >> a
    assert parents(wf) == {0: [], 1: [0], 2: [], 3: [2]}


def test_a_long_chain() -> None:
    wf = built()
    end: Any = group()
    for node in works(wf, 5_000):
        end = end >> node
    assert parents(wf) == {n: [n - 1] if n else [] for n in range(5_000)}


def test_ids_of_jobs_that_exist() -> None:
    wf = built()
    a, b = works(wf, 2)
    55 >> a
    [b, 56] >> a
    b >> 57
    first, second = Sent(wf).jobs
    assert (first["args"]["n"], first["before"]) == (1, [57])
    assert (second["args"]["n"], second["depends_on"], second["after"]) == (0, [55, 56], [0])


def test_two_jobs_that_exist_are_not_joined_here() -> None:
    wf = built()
    with pytest.raises(TypeError, match="add_dependencies"):
        wf.existing(55) >> 56
    with pytest.raises(TypeError, match="job 56 exists already, and can't be told to wait for the whole of workflow"):
        wf.workflow("inner") >> 56


@pytest.mark.parametrize("wrong", [work, work.configure(), "load", None, True, work.func])
def test_what_is_no_part_of_a_graph(wrong: Any) -> None:
    wf = built()
    a = wf.add(work)
    with pytest.raises(TypeError):
        a >> wrong
    with pytest.raises(TypeError):
        wrong >> a
    with pytest.raises(TypeError):
        a >> [wrong]
    with pytest.raises(TypeError):
        work.configure(depends_on=[a, wrong])


def test_a_task_is_no_node_and_the_message_says_what_is() -> None:
    with pytest.raises(TypeError, match="the task 'work': a task is not a job"):
        built().add(work) >> work  # type: ignore[operator]


# -- order


def test_edges_in_any_order() -> None:
    wf = built()
    a, b, c, d = works(wf, 4)
    d >> c >> a
    c >> b
    sent = Sent(wf)
    order = [job["args"]["n"] for job in sent.jobs]
    assert sent.parents == {0: [2], 1: [2], 2: [3], 3: []}
    assert order == [3, 2, 0, 1]
    assert [a.job_id, b.job_id, c.job_id, d.job_id] == [12, 13, 11, 10]


def test_a_cycle_is_named() -> None:
    wf = built()
    a, b, _ = (wf.add(work.configure(node=name)) for name in ("load", "clean", "other"))
    c = wf.add(slow)
    a >> b >> c >> a
    with pytest.raises(CircularDependency) as caught:
        Sent(wf)
    message = str(caught.value)
    assert "node 'load'" in message
    assert "node 'clean'" in message
    assert "node 4 (slow)" in message
    assert "'other'" not in message
    assert message.index("'load' → node 'clean'") > 0


def test_a_node_that_waits_for_itself() -> None:
    wf = built()
    a = wf.add(work.configure(node="a"))
    a >> a
    with pytest.raises(CircularDependency, match="node 'a' → node 'a'"):
        Sent(wf)


def test_a_long_cycle_is_shown_in_part() -> None:
    wf = built()
    nodes = works(wf, 1_000)
    chain(*nodes) >> nodes[0]
    with pytest.raises(CircularDependency, match=r"→ 991 more → node \d+ \(work\)"):
        Sent(wf)


# -- nodes


def test_names() -> None:
    wf = built()
    load = wf.add(work.configure(node="load"), n=3)
    assert wf["load"] is load
    assert (load.name, load.task_name, str(load)) == ("load", "work", "node 'load'")
    assert Sent(wf).jobs[0]["node"] == "load"
    assert wf["load"].job_id == 10


def test_an_unknown_name() -> None:
    wf = built()
    wf.add(work.configure(node="load"))
    with pytest.raises(NodeNotFound, match=r"no node named 'laod' .*'etl'.*: 'load'"):
        wf["laod"]


def test_a_name_twice() -> None:
    wf = built()
    wf.add(work.configure(node="load"))
    with pytest.raises(DuplicateNode, match="two nodes named 'load'"):
        wf.add(slow.configure(node="load"))
    # each workflow has names of its own
    wf.workflow("inner").add(work.configure(node="load"))
    assert len(Sent(wf).jobs) == 2


@pytest.mark.parametrize("name", ["", "x" * 256, "a\x00", "\ud800", 7], ids=ascii)
def test_no_name(name: Any) -> None:
    with pytest.raises(ValueError, match="node="):
        work.configure(node=name)
    if isinstance(name, str):
        wf = Workflow(app, 7).grow()
        wf.plan.open()
        with pytest.raises(ValueError, match="node="):
            wf.existing(name)


def test_whether_a_name_was_given() -> None:
    wf = built()
    wf.add(work.configure(node="load"))
    assert ("load" in wf, "laod" in wf) == (True, False)


def test_a_name_needs_a_workflow() -> None:
    with pytest.raises(ValueError, match=r"give workflow=, too, or add the job by workflow\.add"):
        work.configure(node="load").job_spec()


def test_ids_before_it_is_sent() -> None:
    wf = built()
    a = wf.add(work)
    with pytest.raises(NotSentYet, match="node 1"):
        _ = a.job_id
    with pytest.raises(NotSentYet, match="'etl'"):
        _ = wf.id
    with pytest.raises(NotSentYet, match="node 1"):
        work.configure(depends_on=a).job_spec()
    with pytest.raises(NotSentYet, match="'etl'"):
        work.configure(workflow=wf).job_spec()
    Sent(wf)
    assert (a.job_id, wf.id, wf.name) == (10, 100, "etl")
    assert work.configure(depends_on=[a, wf], workflow=wf, node="x").job_spec() == JobSpec(
        task_name="work",
        run_when=work.run_when,
        depends_on=[10],
        depends_on_workflows=[100],
        workflow_id=100,
        node="x",
    )


def test_options_and_arguments_of_jobs() -> None:
    wf = built()
    wf.add(slow)
    wf.add(work.configure(task_kwargs={"label": "x"}, queue="q", priority=2, lock="l", schedule_in={"minutes": 1}), 4)
    first, second = Sent(wf).jobs
    assert (first["task_name"], first["run_when"], first["priority"]) == ("slow", "all_succeeded", 5)
    assert second["args"] == {"label": "x", "n": 4}
    assert (second["queue"], second["priority"], second["lock"], second["schedule_in"]) == ("q", 2, "l", 60.0)


@pytest.mark.parametrize("wrong", [work.func, "work", 7, None])
def test_what_is_no_task(wrong: Any) -> None:
    with pytest.raises(TypeError, match="add takes a task"):
        built().add(wrong)


def test_a_task_of_an_unbound_blueprint() -> None:
    task = Blueprint().task(name="lonely")(work.func)
    with pytest.raises(UnboundTaskError):
        built().add(task)


def test_a_connection_belongs_to_the_whole() -> None:
    with pytest.raises(ValueError, match=r"give it to app\.workflow"):
        built().add(work.configure(connection=object()))


def test_a_job_of_another_workflow() -> None:
    wf = built()
    inner = wf.workflow("inner")
    with pytest.raises(ValueError, match="another workflow than workflow 'etl'"):
        wf.add(work.configure(workflow=inner))
    with pytest.raises(ValueError, match="another workflow"):
        wf.add(work.configure(workflow=7))
    inner.add(work.configure(workflow=inner))
    assert len(Sent(wf).jobs) == 1


@pytest.mark.parametrize("wrong", [True, "etl", 1.5, object()])
def test_what_is_no_workflow(wrong: Any) -> None:
    with pytest.raises(TypeError, match="pass a workflow, or its id"):
        work.configure(workflow=wrong)


# -- what is not JSON


def test_the_node_whose_arguments_are_not_json() -> None:
    wf = built()
    works(wf, 3)
    wf.add(work.configure(node="load"), n={1, 2})  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="node 'load', task 'work': the argument 'n' can't be stored as JSON"):
        Sent(wf)


def test_metadata_that_is_not_json() -> None:
    wf = app.workflow("etl", metadata={"x": object()})
    wf.plan.open()
    with pytest.raises(InvalidArguments, match="workflow 'etl': its metadata"):
        Sent(wf)


# -- the block


def test_what_is_outside_of_the_block() -> None:
    wf = app.workflow("etl")
    with pytest.raises(NotSentYet, match=r"inside of `with app\.workflow"):
        wf.add(work)
    wf.plan.open()
    a = wf.add(work)
    b = wf.add(work)
    Sent(wf)
    for late in (lambda: wf.add(work), lambda: a >> b, lambda: wf.workflow("x"), lambda: wf.existing(7)):
        with pytest.raises(AlreadySent):
            late()
    with pytest.raises(AlreadySent, match="one `with` block"):
        wf.__enter__()


def test_leaving_by_an_error_sends_nothing() -> None:
    # the app isn't open: to send would be another error
    wf = app.workflow("etl")
    with contextlib.suppress(KeyError), wf:
        wf.add(work)
        raise KeyError("mine")
    with pytest.raises(ProcrastinateException, match="nothing of it was sent"):
        wf.add(work)


async def test_what_could_not_be_sent_takes_nothing_more() -> None:
    """The app isn't open."""
    wf, awaited = app.workflow("etl"), app.workflow("etl")
    with pytest.raises(AppNotOpen), wf:
        wf.add(work)
    with pytest.raises(AppNotOpen):
        async with awaited:
            awaited.add(work)
    for each in (wf, awaited):
        with pytest.raises(ProcrastinateException, match="sending this workflow failed: build another one"):
            each.add(work)


def test_leaving_a_nested_block_by_an_error() -> None:
    wf = built()
    inner = wf.workflow("inner")
    with contextlib.suppress(KeyError), inner:
        inner.add(work)
        raise KeyError("mine")
    with pytest.raises(ProcrastinateException, match="'inner' was left by an error"):
        Sent(wf)


def test_a_node_of_another_workflow() -> None:
    one, other = built(), built()
    a = one.add(work)
    b = other.add(work)
    with pytest.raises(NotSentYet, match="belongs to another workflow"):
        a >> b
    with pytest.raises(NotSentYet, match="belongs to another workflow"):
        other.add(work.configure(depends_on=[a]))
    with pytest.raises(NotSentYet, match="belongs to another workflow"):
        one >> b
    Sent(one)
    a >> b
    one >> b
    (sent,) = Sent(other).jobs
    assert (sent["depends_on"], sent["depends_on_workflows"]) == ([10], [100])


@pytest.mark.parametrize("name", ["", "x" * 256, "a\x00b", "\ud800", None, 7], ids=ascii)
def test_a_workflow_needs_a_name(name: Any) -> None:
    with pytest.raises(ValueError, match="1 to 255 characters"):
        app.workflow(name)


@pytest.mark.parametrize("metadata", ["text", [("day", 1)], 7], ids=str)
def test_metadata_that_is_no_mapping(metadata: Any) -> None:
    with pytest.raises(TypeError, match=r"metadata=.*: pass a mapping"):
        app.workflow("etl", metadata=metadata)


@pytest.mark.parametrize("workflow_id", [None, "7", 1.5, True], ids=str)
def test_what_is_no_id_of_a_workflow(workflow_id: Any) -> None:
    with pytest.raises(TypeError, match=f"workflow_id={workflow_id!r}: pass the workflow's id"):
        app.get_workflow(workflow_id)


def test_nothing_was_read_yet() -> None:
    wf = Workflow(app, 7)
    for name in ("info", "name", "status", "counts", "progress", "metadata", "started_at", "finished_at"):
        with pytest.raises(NotReadYet, match=r"workflow 7 was not read yet: call refresh\(\)"):
            getattr(wf, name)
