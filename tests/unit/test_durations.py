"""Many durations in a few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procrastinate_deps.durations import BOUNDS_S, Durations, histogram

seconds = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)
# What percentile() promises; where both are below the first bound, it can't tell.
OFF_BY = 1.42
ROUNDING = 1 + 1e-12


def durations(values: list[float]) -> Durations:
    ordered = sorted(values)
    return Durations(
        count=len(values), sum_s=sum(values), min_s=ordered[0], max_s=ordered[-1], histogram=histogram(ordered)
    )


@given(seconds)
def test_each_duration_is_in_one_bucket(values: list[float]) -> None:
    counts = histogram(sorted(values))
    assert sum(counts) == len(values)
    assert len(counts) <= len(BOUNDS_S) + 1
    assert counts[-1] > 0
    for value in values:
        bucket = sum(bound <= value for bound in BOUNDS_S)
        assert counts[bucket] > 0


@given(seconds, st.integers(0, 100))
def test_a_percentile_is_near_what_it_is(values: list[float], percent: int) -> None:
    ordered = sorted(values)
    exact = ordered[max(-(-percent * len(values) // 100) - 1, 0)]
    found = durations(values).percentile(percent)
    assert ordered[0] <= found <= ordered[-1]
    if exact < BOUNDS_S[-1]:
        assert found <= max(exact * OFF_BY * ROUNDING, BOUNDS_S[0])
        assert found >= exact / OFF_BY / ROUNDING or exact < BOUNDS_S[0]


def test_of_one_duration() -> None:
    one = durations([0.25])
    assert (one.mean_s, one.percentile(0), one.percentile(50), one.percentile(100)) == (0.25, 0.25, 0.25, 0.25)


def test_percentiles_go_from_0_to_100() -> None:
    with pytest.raises(ValueError, match="101"):
        durations([1.0]).percentile(101)
