"""Random graphs, rules, outcomes, cancels, deletes, retries and workers: the database does what the model says."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.model import concurrent, database
from tests.model.concurrent import PlannedJob
from tests.model.machine import WORKERS, Machine
from tests.model.model import RUN_WHEN, TERMINAL, End, rule_met

LONG_PROFILE = "long"


def chosen(examples: int, steps: int = 1) -> settings:
    """Few and always the same examples, unless the profile `long` asks for a night's search."""
    if settings.get_current_profile_name() == LONG_PROFILE:
        return settings()
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


def test_one_after_another(dsn: str) -> None:
    with contextlib.ExitStack() as opened:
        Machine.connections = [opened.enter_context(database.connect(dsn)) for _ in range(WORKERS + 1)]
        run_state_machine_as_test(Machine, settings=chosen(120, 40))


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


def test_several_at_once(dsn: str) -> None:
    queues: Sequence[Sequence[str] | None] = (None, ["a"], ["b"], ["b", "a"])
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(database.connect(dsn)) for _ in queues]

        @chosen(60)
        @given(plans())
        def run(plan: list[PlannedJob]) -> None:
            database.empty(connections[0])
            ends, runs = concurrent.execute(connections, plan, queues)
            for position, job in enumerate(plan):
                note(f"{position}: {job}, ended {ends[position]}")
            expected = concurrent.expected(plan)
            assert ends == expected
            assert runs == {position: claims for position, (_, _, claims) in enumerate(expected)}

        run()
