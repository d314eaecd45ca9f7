"""Random graphs, rules, outcomes, cancels, deletes, retries and workers: the database does what the model says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.model import concurrent, database, workflow_database
from tests.model.concurrent import Plan, PlannedJob
from tests.model.draws import WORKERS
from tests.model.machine import Machine
from tests.model.model import RUN_WHEN, TERMINAL, End, rule_met
from tests.model.workflow_machine import WorkflowMachine

LONG_PROFILE = "long"


def chosen(examples: int, steps: int = 1) -> settings:
    """Few and always the same examples, unless the profile `long` asks for a night's search."""
    if settings.get_current_profile_name() == LONG_PROFILE:
        return settings()
    if os.environ.get("PROCRASTINATE_DEPS_TEST_PG"):
        # before PostgreSQL 18 the server plans each look at all invariants anew, three times as slowly
        examples //= 3
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_the_rules_of_the_model_as_the_table_has_them() -> None:
    succeeded: End = ("succeeded", None)
    failed: End = ("failed", None)
    aborted: End = ("aborted", None)
    manual: End = ("cancelled", "manual")
    upstream: End = ("cancelled", "upstream")
    not_needed: End = ("cancelled", "not_needed")
    every = (succeeded, failed, aborted, manual, upstream, not_needed)
    runs = {rule: [end for end in every if rule_met(rule, [end])] for rule in RUN_WHEN}
    assert runs == {
        "all_finished": list(every),
        "all_succeeded": [succeeded],
        "any_succeeded": [succeeded],
        "any_failed": [failed, aborted, manual, upstream],
        "all_failed": [failed, aborted, manual, upstream],
        "none_failed": [succeeded, manual, not_needed],
    }
    assert [rule for rule in RUN_WHEN if rule_met(rule, [succeeded, failed])] == [
        "all_finished",
        "any_succeeded",
        "any_failed",
    ]
    assert all(rule_met(rule, []) for rule in RUN_WHEN)


@pytest.mark.timeout(300)
def test_one_after_another(dsn: str) -> None:
    with contextlib.ExitStack() as opened:
        Machine.connections = [opened.enter_context(database.connect(dsn)) for _ in range(WORKERS + 1)]
        run_state_machine_as_test(Machine, settings=chosen(120, 40))


@pytest.mark.timeout(300)
def test_workflows_one_after_another(dsn: str) -> None:
    with contextlib.ExitStack() as opened:
        WorkflowMachine.connections = [opened.enter_context(database.connect(dsn)) for _ in range(WORKERS + 1)]
        run_state_machine_as_test(WorkflowMachine, settings=chosen(50, 40))


@st.composite
def plans(draw: st.DrawFn) -> list[PlannedJob]:
    size = draw(st.integers(4, 24))
    return [
        PlannedJob(
            run_when=draw(st.sampled_from(RUN_WHEN)),
            queue=draw(st.sampled_from(("a", "b"))),
            priority=draw(st.integers(0, 2)),
            lock=draw(st.sampled_from((None, None, None, "x", "y"))),
            after=draw(st.frozensets(st.integers(0, position - 1), max_size=4)) if position else frozenset(),
            retries=draw(st.sampled_from((0, 0, 0, 1, 2))),
            end=draw(st.sampled_from(("succeeded", *TERMINAL))),
        )
        for position in range(size)
    ]


def nested(workflows: Sequence[int | None], workflow: int) -> set[int]:
    """A workflow, by its position, and those in it: they come after it."""
    tree = {workflow}
    for position, parent in enumerate(workflows):
        if parent in tree:
            tree.add(position)
    return tree


@st.composite
def plans_with_workflows(draw: st.DrawFn) -> Plan:
    workflows = [draw(st.sampled_from((None, *range(position)))) for position in range(draw(st.integers(1, 4)))]
    jobs: list[PlannedJob] = []
    # workflows that somebody waits for the whole of: no job of the plan comes into them any more
    closed: set[int] = set()
    none: frozenset[int] = frozenset()
    # by workflow, who cancels it: before all of its jobs
    cancelling: dict[int, int] = {}
    for position, job in enumerate(draw(plans())):
        workflow = draw(st.sampled_from((None, *sorted({*range(len(workflows))} - closed))))
        outer = {each for each in range(len(workflows)) if workflow in nested(workflows, each)}
        others = sorted({*range(len(workflows))} - outer)
        whole = draw(st.sampled_from([none, *(frozenset({each}) for each in others)]))
        occupied = {
            each for other in jobs for each in range(len(workflows)) if other.workflow in nested(workflows, each)
        }
        may_cancel = [each for each in others if each not in occupied | closed]
        cancels = draw(st.sampled_from((None, None, *may_cancel)))
        for each in whole:
            closed |= nested(workflows, each)
        after = job.after | {cancelling[each] for each in outer if each in cancelling}
        if cancels is not None:
            cancelling[cancels] = position
        grows = () if workflow is None else tuple(draw(st.lists(st.sampled_from(TERMINAL), max_size=2)))
        jobs.append(replace(job, workflow=workflow, whole=whole, after=after, cancels=cancels, grows=grows))
    return Plan(jobs, workflows)


def run_at_once(dsn: str, plans: st.SearchStrategy[Plan], examples: int) -> None:
    queues: Sequence[Sequence[str] | None] = (None, ["a"], ["b"], ["b", "a"])
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(database.connect(dsn)) for _ in queues]

        @chosen(examples)
        @given(plans)
        def run(plan: Plan) -> None:
            workflow_database.empty(connections[0])
            database.empty(connections[0])
            ends, runs = concurrent.execute(connections, plan, queues)
            note(f"workflows {plan.workflows}, ended {ends.workflows}")
            for position, job in enumerate(plan.jobs):
                note(f"{position}: {job}, ended {ends.jobs[position]}")
            expected = concurrent.expected(plan)
            assert ends == expected
            assert runs == {key: claims for key, (_, _, claims) in expected.jobs.items() if claims}

        run()


def test_several_at_once(dsn: str) -> None:
    run_at_once(dsn, plans().map(Plan), 60)


def test_workflows_by_several_at_once(dsn: str) -> None:
    run_at_once(dsn, plans_with_workflows(), 30)
