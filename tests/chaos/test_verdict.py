"""The verdict notices: each thing that could have gone wrong is told to it, and is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.checks import Evidence, JobRow, problems
from tests.chaos.graphs import Node, in_waves, random_graph
from tests.chaos.ledger import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2030, 1, 1, tzinfo=UTC)
LIVING, KILLED = 1, 2


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def run(job_id: int, start: float, end: float | None, claim: int = 1, outcome: str = "succeeded") -> Recorded:
    parents = {3: {1: "succeeded", 2: "failed"}, 6: {5: "succeeded", 7: "succeeded", 8: "succeeded", 9: "succeeded"}}
    return Recorded(
        job_id=job_id,
        claim=claim,
        worker="a",
        pid=1,
        started_at=at(start),
        ended_at=None if end is None else at(end),
        parents=None if end is None else parents.get(job_id, {}),
        outcome=None if end is None else outcome,
    )


def job(id_: int, kind: str = "steady", **fields: Any) -> JobRow:
    row = JobRow(
        id=id_,
        task_name=f"{kind}_async",
        node=id_,
        grower=None,
        grower_claim=None,
        status="succeeded",
        cancel_kind=None,
        rule="all_finished",
        claim=1,
        attempts=1,
        rescues=0,
        lock=None,
        finished_at=at(id_ + 0.9),
        result_claim=1,
        error=None,
    )
    return row._replace(**fields)


def healthy() -> Evidence:
    """1 was killed and ran again, 2 failed, 3 has the two as parents, 4 was cancelled by its rule, 5 grew."""
    part: dict[str, Any] = {"node": None, "grower": 5, "grower_claim": 1, "task_name": "part"}
    lines = [
        job(1, claim=2, attempts=2, rescues=1, lock="l", result_claim=2),
        job(2, "doomed", status="failed", result_claim=None, claim=2, attempts=2, error="MeantToFail"),
        job(3, lock="l"),
        job(
            4, status="cancelled", cancel_kind="upstream", rule="all_succeeded", claim=0, attempts=0, result_claim=None
        ),
        job(5, "grower"),
        job(6, "join", finished_at=at(30)),
        *(job(id_, **part) for id_ in (7, 8, 9)),
        job(10, "patient", claim=2, attempts=2, result_claim=2),
    ]
    runs = [
        run(1, 1, None),
        run(1, 1.5, 1.8, claim=2),
        run(2, 2, 2.1, outcome="failed"),
        run(2, 2.2, 2.3, claim=2, outcome="failed"),
        run(3, 3.2, 3.5),
        *(run(id_, id_, id_ + 0.5) for id_ in (5, 7, 8, 9)),
        run(6, 20, 21),
        run(10, 10, 10.1, outcome="failed"),
        run(10, 10.5, 10.6, claim=2),
    ]
    return Evidence(
        nodes=[
            Node(1, lock="l"),
            Node(2, kind="doomed"),
            Node(3, parents=(1, 2), lock="l"),
            Node(4, parents=(2,)),
            Node(5, kind="grower"),
            Node(6, kind="join", parents=(5,)),
            Node(10, kind="patient", failures=1),
        ],
        ids={number: number for number in (1, 2, 3, 4, 5, 6, 10)},
        schedules={3: at(3.1)},
        cancels={},
        killed={KILLED},
        loses_answers=False,
        jobs=list(lines),
        edges=[(1, 3), (2, 3), (2, 4), (5, 6), (7, 6), (8, 6), (9, 6)],
        events=[
            (1, "rescued", at(1.2), KILLED),
            (2, "attempt_failed", at(2.15), LIVING),
            (10, "attempt_failed", at(10.2), LIVING),
        ],
        violations=[],
        left_over=[],
        runs=runs,
        logs={"a.log": [{"level": "error", "action": "job_error", "message": "as meant"}]},
    )


def with_job(id_: int, **fields: Any) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        jobs = [JobRow(*row)._replace(**fields) if row[0] == id_ else row for row in evidence.jobs]
        return replace(evidence, jobs=list(jobs))

    return change


def with_run(job_id: int, claim: int = 1, **fields: Any) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        return replace(
            evidence,
            runs=[
                replace(each, **fields) if (each.job_id, each.claim) == (job_id, claim) else each
                for each in evidence.runs
            ],
        )

    return change


def without_run(job_id: int) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, runs=[each for each in evidence.runs if each.job_id != job_id])


def with_more(name: str, *more: Any) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        changes: dict[str, Any] = {name: [*getattr(evidence, name), *more]}
        return replace(evidence, **changes)

    return change


def without_edge(*edge: int) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, edges=[each for each in evidence.edges if each != edge])


WRONG: list[tuple[Callable[[Evidence], Evidence], str]] = [
    (with_more("violations", ("a rule", 1, [7])), "violated"),
    (with_more("left_over", ("lock", "l")), "left over"),
    (without_edge(2, 4), "has the parents"),
    (with_more("edges", (5, 4)), "has the parents"),
    (with_job(3, status="todo", finished_at=None), "is not terminal"),
    (with_job(3, status="failed", error="Oops", result_claim=None), "ended as"),
    (with_job(4, cancel_kind="not_needed"), "ended as"),
    (with_job(4, rule="any_failed"), "ended as"),
    (with_job(3, claim=2, result_claim=2), "was claimed 2 times"),
    (with_job(3, attempts=2), "counts 2 attempts"),
    (with_job(3, result_claim=0), "result of claim 0"),
    (with_job(4, claim=1), "was cancelled by its rule, but claimed"),
    (with_more("events", (2, "attempt_failed", at(2.2), LIVING)), "was to fail 1 times"),
    (with_more("events", (3, "rescued", at(3), LIVING)), "which nobody killed"),
    (with_more("runs", run(3, 3.6, 3.7)), "ran 2 times under claim 1"),
    (with_more("runs", run(4, 5, 6)), "never had"),
    (without_run(3), "effect is not recorded"),
    (with_run(3, ended_at=None), "effect is not recorded"),
    (with_run(3, outcome="failed"), "but recorded failed"),
    (with_more("events", (3, "requeued", at(3.6), LIVING)), "was given back by claim 1, which ran it"),
    (with_run(3, started_at=at(2.2)), "before the end of its parent"),
    (with_run(3, started_at=at(3.0)), "was scheduled at"),
    (with_run(10, claim=2, started_at=at(10.2)), "was retried after"),
    (with_run(3, parents={1: "succeeded"}), "saw its parents as"),
    (with_run(1, claim=2, ended_at=at(3.3)), "'l': claim 2"),
    (with_more("jobs", job(11, node=None, grower=5, grower_claim=1, task_name="part")), "has 4 parts"),
    (without_edge(8, 6), "waited for 2 parts"),
    (with_run(5, notes=["too late"]), "though its claim was its own"),
]


def test_a_healthy_run_has_no_problems() -> None:
    assert problems(healthy()) == []


@pytest.mark.parametrize(("change", "expected"), WRONG)
def test_what_is_wrong_is_found(change: Callable[[Evidence], Evidence], expected: str) -> None:
    found = problems(change(healthy()))
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"message": "Traceback (most recent call last):"}, "printed"),
        ({"level": "error", "message": "Task exception was never retrieved"}, "never retrieved"),
        ({"level": "critical", "action": "worker_failed", "message": "Exchange failed"}, "Exchange failed"),
    ],
)
def test_a_log_that_tells_of_a_bug_is_found(record: dict[str, Any], expected: str) -> None:
    evidence = replace(healthy(), logs={"a.log": [record]})
    assert any(expected in problem for problem in problems(evidence))


def test_a_run_of_a_lost_claim_may_overlap_once_it_was_taken_back() -> None:
    """The killed worker's process may go on for a moment, with its lock in other hands."""
    assert problems(with_run(1, ended_at=at(9))(healthy())) == [], "it ended long after its rescue"
    rescued_late = replace(healthy(), events=[(1, "rescued", at(1.7), KILLED), *healthy().events[1:]])
    assert any("'l'" in problem for problem in problems(with_run(1, ended_at=at(9))(rescued_late)))


def test_the_same_seed_gives_the_same_graph() -> None:
    assert random_graph(7, 200) == random_graph(7, 200) != random_graph(8, 200)
    nodes = random_graph(7, 200)
    assert len(nodes) >= 200
    assert {node.kind for node in nodes} == {"steady", "flaky", "patient", "doomed", "grower", "join"}
    assert all(parent < node.number for node in nodes for parent in node.parents)
    waves = in_waves(nodes, 4)
    assert [node for wave in waves for node in wave] == nodes
    assert len(waves) == 4
