"""What is read of rows, and what is sent of values."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import pytest

from procrastinate_deps import statements
from procrastinate_deps.connectors import PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import InvalidArguments
from procrastinate_deps.jobs import Job, JobSpec, Outcome, Status, UnreadableJob
from procrastinate_deps.statements.rows import claimed_jobs_reader

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
ROW = (
    7,
    3,
    "q",
    "t",
    '{"a": 1}',
    5,
    "l",
    "ql",
    2,
    1,
    "all_succeeded",
    False,
    True,
    AT,
    None,
    AT,
    AT,
    "e",
    4,
    "n",
    None,
)


def test_a_claimed_job_is_like_any_other() -> None:
    [job] = claimed_jobs_reader(9)([ROW], json.loads)
    expected = Job(
        id=7, claim=3, status=Status.DOING, queue="q", task_name="t", task_kwargs={"a": 1}, priority=5, lock="l",
        queueing_lock="ql", attempts=2, rescues=1, run_when=RunWhen.ALL_SUCCEEDED, gate=None, worker_id=9,
        abort_requested=False, ignores_dependencies=True, created_at=AT, scheduled_at=None, ready_at=AT, started_at=AT,
        finished_at=None, result=None, error="e", cancel_kind=None, cancel_reason=None, workflow_id=4, node="n",
    )  # fmt: skip
    assert type(job) is Job
    assert job == expected
    assert job.evolve(attempts=3) == expected.evolve(attempts=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.attempts = 3  # type: ignore[misc]


def test_a_claimed_job_that_cannot_be_read_says_so_and_has_the_rest() -> None:
    jobs = claimed_jobs_reader(9)([(*ROW[:4], "broken", *ROW[5:]), ROW], json.loads)
    assert [type(job) for job in jobs] == [UnreadableJob, Job]
    assert isinstance(jobs[0], UnreadableJob)
    assert "arguments of job 7 can't be read" in str(jobs[0].problem)
    assert (jobs[0].task_kwargs, jobs[0].started_at, jobs[0].error) == ({}, AT, "e")


def test_results_and_errors_are_sent_where_there_are_any() -> None:
    nothing = [Outcome(job_id=n, claim=1, status=Status.SUCCEEDED) for n in (1, 2)]
    assert statements.finish_jobs(nothing).values[:5] == ([1, 2], [1, 1], ["succeeded"] * 2, [], [])
    mixed = [
        Outcome(job_id=1, claim=1, status=Status.SUCCEEDED),
        Outcome(job_id=2, claim=1, status=Status.SUCCEEDED, result={"a": 1}),
        Outcome(job_id=3, claim=1, status=Status.FAILED, error="e"),
    ]
    _, _, _, results, errors, *_ = statements.finish_jobs(mixed).values
    assert [result and json.loads(result) for result in results] == [None, {"a": 1}, None]
    assert errors == [None, None, "e"]


@pytest.mark.parametrize("name", ["task_name", "queue", "lock", "queueing_lock", "node"])
@pytest.mark.parametrize(("value", "why"), [("a\ud800", "half of a surrogate pair"), ("a\x00", "NUL character")])
def test_names_that_cannot_be_stored_are_refused_before_anything_is_sent(name: str, value: str, why: str) -> None:
    fields = {"task_name": "t", name: value}
    for jobs in ([JobSpec(**fields)], [JobSpec(task_name="t"), JobSpec(**fields)]):  # type: ignore[arg-type]
        with pytest.raises(InvalidArguments, match=rf"its {name} .* {why}"):
            statements.defer_jobs(jobs, json_dumps=json.dumps)


@pytest.mark.parametrize("kind", [PsycopgConnector, SyncPsycopgConnector])
def test_the_other_connectors_name_of_the_connection_string_is_refused(kind: type) -> None:
    with pytest.raises(TypeError, match="conninfo="):
        kind(dsn="postgresql://elsewhere/db")
