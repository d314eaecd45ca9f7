"""What runs came to, minute by minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.durations import Durations, JobStats
from procrastinate_deps.statements.base import Row, Statement, read_value, seconds, utc
from procrastinate_deps.statements.rows import read_status
from procrastinate_deps.times import check_aware

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta

    from procrastinate_deps.jsontext import JsonLoads

STATS_STEP_S = 60.0
"""The step of time in which numbers are kept."""

STATS_DIMENSIONS = ("queue", "task", "status")
"""What is counted apart."""


def add_job_stats(worker_id: int, batch: int, age_s: float, stats: str) -> Statement[bool]:
    """Add a worker's numbers, a JSON array, to the minute `age_s` ago. False: this batch was added already."""
    return Statement("add_job_stats", (worker_id, batch, float(age_s), stats), read_value)


def prune_job_stats(older_than: timedelta | float, max_rows: int) -> Statement[int]:
    """Delete up to `max_rows` rows of old numbers; how many."""
    return Statement("prune_job_stats", (seconds(older_than), max_rows), read_value)


def get_stats(
    since: datetime,
    until: datetime | None = None,
    queue: str | None = None,
    task: str | None = None,
    step: timedelta | float = STATS_STEP_S,
    by: Collection[str] = STATS_DIMENSIONS,
    histograms: bool = True,
) -> Statement[list[JobStats]]:
    """What runs came to, by steps of time; see `JobManager.get_stats`."""
    step_s = seconds(step)
    if step_s < STATS_STEP_S or step_s % STATS_STEP_S:
        raise ValueError(f"step={step!r}: pass a whole number of minutes, as a timedelta or in seconds")
    if isinstance(by, str) or not set(by) <= set(STATS_DIMENSIONS):
        raise ValueError(f"by={by!r}: pass some of {STATS_DIMENSIONS}, or () to count all together")
    if until is not None:
        check_aware(until, "until")
    apart = (each in by for each in STATS_DIMENSIONS)
    values = (check_aware(since, "since"), until, queue, task, step_s, *apart, histograms)
    return Statement("get_stats", values, _read_stats)


def _read_stats(rows: Sequence[Row], loads: JsonLoads) -> list[JobStats]:
    return [
        JobStats(
            start=utc(row[0]),
            queue=row[1],
            task_name=row[2],
            status=None if row[3] is None else read_status(row[3]),
            run=_durations(row[4], row[5:9]),
            wait=_durations(row[4], row[9:13]),
        )
        for row in rows
    ]


def _durations(count: int, values: Sequence[object]) -> Durations:
    sum_s, min_s, max_s, counts = values
    return Durations(count=count, sum_s=sum_s, min_s=min_s, max_s=max_s, histogram=counts or [])  # type: ignore[arg-type]
