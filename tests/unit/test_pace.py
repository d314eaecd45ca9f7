"""How many jobs a worker counts on to end while a statement is under way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from procrastinate_deps.worker import pace as pace_module
from procrastinate_deps.worker.pace import Pace


class Times:
    """A runner and a clock that are told what happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.runner = SimpleNamespace(ended=0, busy_s=0.0)
        self.pace = Pace(cast("Any", self.runner))
        monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def ran(self, jobs: int, seconds: float) -> None:
        self.runner.ended += jobs
        self.runner.busy_s += seconds

    def statement(self, seconds: float = 0.003) -> None:
        with self.pace.statement():
            self.now += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def test_nothing_is_known_at_first(times: Times) -> None:
    assert times.pace.per_statement == 0
    times.statement()
    assert times.pace.per_statement == 0


def test_short_jobs_that_end_between_two_statements_count(times: Times) -> None:
    for _ in range(3):
        times.ran(100, 0.001)
        times.statement()
    assert times.pace.per_statement == pytest.approx(300, abs=1)


def test_a_time_without_jobs_is_no_pace(times: Times) -> None:
    for _ in range(3):
        times.ran(100, 0.001)
        times.statement()
    times.now += 3600
    times.statement()
    assert times.pace.per_statement == pytest.approx(300, abs=1)


def test_long_jobs_count_for_little_though_they_end_all_at_once(times: Times) -> None:
    for _ in range(3):
        times.ran(60, 0.05)
        times.statement()
        # the others of the batch, a moment later
        times.ran(40, 0.001)
        times.statement()
        assert times.pace.per_statement <= 3


def test_one_late_answer_is_no_reason_to_fetch_more(times: Times) -> None:
    for _ in range(3):
        times.ran(10, 0.01)
        times.statement()
    assert times.pace.per_statement == pytest.approx(3, abs=1)
    times.ran(10, 0.01)
    times.statement(20.0)
    assert times.pace.per_statement == pytest.approx(3, abs=1)


def test_long_jobs_after_short_ones_end_it_at_once(times: Times) -> None:
    for _ in range(3):
        times.ran(100, 0.001)
        times.statement()
    times.ran(1, 1.0)
    times.statement()
    assert times.pace.per_statement == 0


def test_reset(times: Times) -> None:
    for _ in range(3):
        times.ran(100, 0.001)
        times.statement()
    times.pace.reset()
    assert times.pace.per_statement == 0
    times.ran(100, 0.001)
    times.statement()
    assert times.pace.per_statement == 0, "one time is not enough"
