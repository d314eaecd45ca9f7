from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from procrastinate_deps.retry import MAX_WAIT_S, BaseRetryStrategy, RetryDecision, RetryStrategy, get_retry_strategy

if TYPE_CHECKING:
    from procrastinate_deps.jobs import Job


def job_after(attempts: int) -> Job:
    # A strategy reads nothing of a job but its attempts.
    return cast("Job", SimpleNamespace(attempts=attempts))


@pytest.mark.parametrize(
    ("strategy", "attempts", "wait_s"),
    [
        (RetryStrategy(), 0, 0),
        (RetryStrategy(wait=5), 0, 5),
        (RetryStrategy(wait=5), 9, 5),
        (RetryStrategy(linear_wait=7), 0, 0),
        (RetryStrategy(linear_wait=7), 3, 21),
        (RetryStrategy(exponential_wait=2), 0, 2),
        (RetryStrategy(exponential_wait=2), 5, 64),
        (RetryStrategy(wait=8, linear_wait=3, exponential_wait=2), 4, 52),
        (RetryStrategy(exponential_wait=10), 40, MAX_WAIT_S),
        (RetryStrategy(exponential_wait=10.0), 400, MAX_WAIT_S),
    ],
)
def test_the_formula_of_the_wait(strategy: RetryStrategy, attempts: int, wait_s: float) -> None:
    assert strategy.wait_s(attempts) == wait_s


def test_a_decision_is_that_far_from_now() -> None:
    before = datetime.now(UTC)
    decision = RetryStrategy(wait=30).get_retry_decision(exception=ValueError(), job=job_after(0))
    after = datetime.now(UTC)
    assert decision is not None
    assert decision.retry_at is not None
    assert before + timedelta(seconds=30) <= decision.retry_at <= after + timedelta(seconds=30)


def test_no_wait_is_at_once_and_not_a_moment_of_this_clock() -> None:
    assert RetryStrategy().get_retry_decision(exception=ValueError(), job=job_after(3)) == RetryDecision()


@pytest.mark.parametrize(("attempts", "retried"), [(0, True), (1, True), (2, False), (3, False)])
def test_max_attempts_counts_retries(attempts: int, retried: bool) -> None:
    decision = RetryStrategy(max_attempts=2).get_retry_decision(exception=ValueError(), job=job_after(attempts))
    assert (decision is not None) is retried


@pytest.mark.parametrize(("exception", "retried"), [(LookupError(), True), (KeyError(), True), (ValueError(), False)])
def test_only_the_named_exceptions_and_their_subclasses(exception: Exception, retried: bool) -> None:
    # An iterator: it must serve for more than one decision.
    strategy = RetryStrategy(retry_exceptions=iter([LookupError]))
    for _ in range(2):
        assert (strategy.get_retry_decision(exception=exception, job=job_after(0)) is not None) is retried


def test_jitter_spreads_the_wait_around_its_value() -> None:
    waits = {RetryStrategy(wait=100, jitter=0.25).wait_s(0) for _ in range(200)}
    assert len(waits) > 100
    assert 75 <= min(waits) < 90
    assert 110 < max(waits) <= 125


@pytest.mark.parametrize("options", [{"wait": -1}, {"max_attempts": -1}, {"jitter": 1.5}, {"jitter": -0.1}])
def test_impossible_strategies_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RetryStrategy(**options)


class Twice(BaseRetryStrategy):
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        return RetryDecision(priority=7, queue="slow", lock="x") if job.attempts < 2 else None


@pytest.mark.parametrize(
    ("value", "strategy"),
    [
        (None, None),
        (False, None),
        (0, None),
        (True, RetryStrategy()),
        (1, RetryStrategy(max_attempts=1)),
        (12, RetryStrategy(max_attempts=12)),
        (RetryStrategy(wait=3), RetryStrategy(wait=3)),
    ],
)
def test_what_retry_takes(value: Any, strategy: RetryStrategy | None) -> None:
    assert get_retry_strategy(value) == strategy


def test_a_strategy_of_ones_own() -> None:
    strategy = get_retry_strategy(own := Twice())
    assert strategy is own
    rerouted = RetryDecision(priority=7, queue="slow", lock="x")
    assert strategy.get_retry_decision(exception=ValueError(), job=job_after(1)) == rerouted
    assert strategy.get_retry_decision(exception=ValueError(), job=job_after(2)) is None


@pytest.mark.parametrize("value", ["yes", RetryStrategy, 1.5])
def test_anything_else_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match="RetryStrategy"):
        get_retry_strategy(value)


def test_a_decision_takes_one_moment_only() -> None:
    with pytest.raises(ValueError, match="retry_in"):
        RetryDecision(retry_at=datetime.now(UTC), retry_in={"seconds": 5})


def test_a_decision_takes_aware_moments_only() -> None:
    with pytest.raises(ValueError, match="time zone"):
        RetryDecision(retry_at=datetime(2030, 1, 1))  # noqa: DTZ001 - a naive one is the point


# Moments that a datetime holds where they are said, and not in UTC.
BEFORE_ALL_TIME = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
AFTER_ALL_TIME = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))


@pytest.mark.parametrize(
    "given", [{"retry_at": BEFORE_ALL_TIME}, {"retry_at": AFTER_ALL_TIME}, {"retry_in": timedelta.max}]
)
def test_a_decision_takes_no_moment_that_could_not_be_read_again(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))}=.* outside of the years 1 to 9999 in UTC"):
        RetryDecision(**given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"priority": "high"}, TypeError),
        ({"priority": True}, TypeError),
        ({"priority": 2**31}, ValueError),
        ({"queue": ""}, ValueError),
        ({"queue": "x" * 256}, ValueError),
        ({"queue": "a\0b"}, ValueError),
        ({"queue": object()}, ValueError),
        ({"lock": "x" * 2001}, ValueError),
        ({"lock": 1}, ValueError),
    ],
)
def test_a_decision_takes_no_value_that_no_job_can_have(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(given))):
        RetryDecision(**given)


def test_a_decision_takes_the_outermost_values() -> None:
    assert RetryDecision(priority=-(2**31), queue="x" * 255, lock="x" * 2000).priority == -(2**31)
    assert RetryDecision(lock="", retry_at=datetime.min.replace(tzinfo=UTC)).lock == ""


@pytest.mark.parametrize("retry_in", [timedelta(minutes=5), {"minutes": 5}])
def test_a_distance_is_a_timedelta_or_its_arguments(retry_in: Any) -> None:
    before = datetime.now(UTC)
    decision = RetryDecision(retry_in=retry_in)
    assert decision.retry_at is not None
    assert timedelta(minutes=5) <= decision.retry_at - before < timedelta(minutes=6)


@pytest.mark.parametrize("retry_in", [{"minuets": 5}, 5])
def test_a_wrong_distance_is_refused_with_its_name(retry_in: Any) -> None:
    with pytest.raises(TypeError, match="retry_in"):
        RetryDecision(retry_in=retry_in)
