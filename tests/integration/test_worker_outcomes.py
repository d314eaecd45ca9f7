"""How a run's end becomes what is recorded: a pure function."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from procrastinate_deps import App, PsycopgConnector
from procrastinate_deps.context import AbortReason
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import JobAborted, JobRetry
from procrastinate_deps.jobs import Job, Status
from procrastinate_deps.jsontext import dumps_text, encode
from procrastinate_deps.retry import BaseRetryStrategy, RetryDecision
from procrastinate_deps.worker.outcomes import (
    MAX_ERROR_BYTES,
    Cancelled,
    End,
    Raised,
    Returned,
    Unrunnable,
    error_text,
    outcome_of,
)

app = App(connector=PsycopgConnector())

JOB = Job(
    id=7,
    status=Status.DOING,
    queue="default",
    priority=0,
    lock=None,
    queueing_lock=None,
    task_name="a_task",
    task_kwargs={},
    scheduled_at=None,
    ready_at=None,
    attempts=0,
    abort_requested=False,
    worker_id=1,
    run_when=RunWhen.ALL_FINISHED,
    created_at=datetime.now(UTC),
    started_at=None,
    finished_at=None,
    result=None,
    error=None,
    cancel_kind=None,
    cancel_reason=None,
    rescues=0,
    claim=3,
    gate=None,
    ignores_dependencies=False,
)


class Broken(BaseRetryStrategy):
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        raise KeyError("the strategy's own error")


@app.task(name="plain")
def plain() -> None: ...


@app.task(name="retried", retry=True, timeout=5)
def retried() -> None: ...


@app.task(name="broken_retry", retry=Broken())
def broken_retry() -> None: ...


@app.task(name="forgetful", store_result=False)
def forgetful() -> None: ...


def raised(exception: BaseException) -> Raised:
    try:
        raise exception
    except BaseException as caught:  # noqa: BLE001
        return Raised(caught)


@pytest.mark.parametrize(
    ("task", "end", "reason", "status", "is_retry"),
    [
        (plain, Returned(1), None, "succeeded", False),
        (plain, Returned(1), AbortReason.USER_REQUEST, "succeeded", False),
        (plain, Returned(1), AbortReason.SHUTDOWN, "succeeded", False),
        (plain, Raised(ValueError()), None, "failed", False),
        (retried, Raised(ValueError()), None, "todo", True),
        (retried, Raised(ValueError()), AbortReason.USER_REQUEST, "failed", False),
        (retried, Raised(ValueError()), AbortReason.SHUTDOWN, "todo", True),
        (retried, Raised(JobAborted()), None, "aborted", False),
        (retried, Raised(JobAborted()), AbortReason.USER_REQUEST, "aborted", False),
        (retried, Raised(JobAborted()), AbortReason.SHUTDOWN, "todo", False),
        (retried, Raised(JobAborted()), AbortReason.TIMEOUT, "todo", True),
        (plain, Cancelled(), AbortReason.USER_REQUEST, "aborted", False),
        (plain, Cancelled(), AbortReason.SHUTDOWN, "todo", False),
        (plain, Cancelled(), AbortReason.TIMEOUT, "failed", False),
        (retried, Cancelled(), AbortReason.TIMEOUT, "todo", True),
        (retried, Unrunnable(TypeError()), None, "failed", False),
        (None, Unrunnable(TypeError()), None, "failed", False),
    ],
)
def test_each_end_has_one_outcome(task: Any, end: End, reason: AbortReason | None, status: str, is_retry: bool) -> None:
    outcome = outcome_of(JOB, task, end, reason, encode)
    assert (outcome.job_id, outcome.claim) == (JOB.id, JOB.claim)
    assert outcome.status == status
    assert (outcome.retry is not None) == is_retry


def test_a_task_can_ask_for_its_retry() -> None:
    decision = RetryDecision(queue="slow")
    assert outcome_of(JOB, plain, raised(JobRetry(decision)), None, encode).retry == decision


def test_a_timeout_says_how_long_it_was_and_what_the_task_raised() -> None:
    error = outcome_of(JOB, retried, raised(KeyError("inner")), AbortReason.TIMEOUT, encode).error
    assert error is not None
    assert error.startswith("TimeoutError: task 'a_task' ran longer than its timeout of 5 s")
    assert "KeyError: 'inner'" in error


def test_a_broken_retry_strategy_fails_the_job_with_both_errors() -> None:
    outcome = outcome_of(JOB, broken_retry, raised(ValueError("the task's own")), None, encode)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "the task's own" in outcome.error
    assert "the strategy's own error" in outcome.error


def test_the_error_text_is_the_exception_in_one_line_then_its_traceback() -> None:
    text = error_text(raised(ValueError("boom")).exception)
    assert text.startswith("ValueError: boom\n\nTraceback")
    assert "in raised" in text


def test_the_error_text_holds_nothing_that_postgresql_refuses() -> None:
    text = error_text(raised(ValueError("a\0b \ud800 c")).exception)
    assert "\0" not in text
    assert r"a\x00b" in text
    text.encode()


def test_a_long_error_keeps_its_beginning_and_its_end() -> None:
    text = error_text(raised(ValueError("x" * 10_000_000)).exception)
    assert len(text.encode()) < MAX_ERROR_BYTES + 100
    assert text.startswith("ValueError: xxx")
    assert "bytes left out" in text


@pytest.mark.parametrize("value", [object(), float("nan"), "\0", {"a": "\ud800"}, {(1, 2): 3}, "x" * 1_100_000])
def test_a_result_that_cannot_be_stored_leaves_a_mark_and_one_warning(
    value: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procrastinate_deps.worker.outcomes._tasks_warned_about", set())
    for dumps in (encode, dumps_text(json.dumps)):
        with caplog.at_level(logging.WARNING):
            outcome = outcome_of(JOB, plain, Returned(value), None, dumps)
        assert outcome.status == "succeeded"
        assert list(json.loads(outcome.result)) == ["$not_stored"]
    assert [record.__dict__["action"] for record in caplog.records] == ["result_not_stored"]


@pytest.mark.parametrize("value", [0, "", [], {"a": ["\\u0000", "é", "😀"]}, 10**30])
def test_a_result_is_stored_as_it_is(value: object) -> None:
    for dumps in (encode, dumps_text(json.dumps)):
        assert json.loads(outcome_of(JOB, plain, Returned(value), None, dumps).result) == value


def test_no_result_is_stored_for_none_or_where_it_is_not_wanted() -> None:
    assert outcome_of(JOB, plain, Returned(None), None, encode).result is None
    assert outcome_of(JOB, forgetful, Returned(1), None, encode).result is None
