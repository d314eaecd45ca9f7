"""How long runs took and jobs waited, many of them in a few numbers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from procrastinate_deps.jobs import Status

# 0.1 ms to 21 h, each 1.41 times the one before. The rows of job_stats are made with them: to change them takes a
# migration.
BOUNDS_S = tuple(0.0001 * 2 ** (step / 2) for step in range(60))


def histogram(ordered: Sequence[float]) -> list[int]:
    """How many of these seconds, in rising order, are below each bound and not below the one before.

    It ends with the last that isn't 0; the 61st counts those that are below no bound.
    """
    counts: list[int] = []
    below = 0
    for bound in BOUNDS_S:
        if below == len(ordered):
            return counts
        before, below = below, bisect_left(ordered, bound, below)
        counts.append(below - before)
    if below < len(ordered):
        counts.append(len(ordered) - below)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """A number of durations, in seconds.

    Attributes
    ----------
    count, sum_s, min_s, max_s:
        How many, and what they come to.
    histogram:
        How many are below each of `BOUNDS_S` and not below the one before, without trailing zeros.
    """

    count: int
    sum_s: float
    min_s: float
    max_s: float
    histogram: Sequence[int] = field(repr=False)

    @property
    def mean_s(self) -> float:
        return self.sum_s / self.count

    def percentile(self, percent: float) -> float:
        """The seconds that `percent` (0 to 100) of the durations don't exceed; at the worst it is 1.41 times off.

        Raises ValueError for another percentage, and where the histogram was not read.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percentile({percent!r}): pass a number from 0 to 100")
        if not self.histogram:
            raise ValueError("there is no histogram to take a percentile from: read it with histograms=True")
        rank = percent / 100 * sum(self.histogram)
        below = 0
        for bucket, count in enumerate(self.histogram):
            if count and below + count >= rank:
                lower = max(self.min_s, BOUNDS_S[bucket - 1] if bucket else 0.0)
                upper = min(self.max_s, BOUNDS_S[bucket]) if bucket < len(BOUNDS_S) else self.max_s
                # rounding may pass by an end
                return min(max(lower + (upper - lower) * max(rank - below, 0) / count, lower), upper)
            below += count
        return self.max_s


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStats:
    """The runs that ended in one step of time, as their workers counted them.

    Attributes
    ----------
    start:
        When the step begins, in UTC, by the database's clock.
    queue, task_name, status:
        What was counted apart; None: all together. The status is what the run made of its job: succeeded, failed,
        aborted, or todo, when it failed and its job will be retried. A queue and task of "" are more than one worker
        keeps apart (1,000 in 10 s).
    run:
        From the start of a run to its end.
    wait:
        How long the job was ready to run before a worker claimed it: its parents had ended, its time had come.
    """

    start: datetime
    queue: str | None
    task_name: str | None
    status: Status | None
    run: Durations
    wait: Durations

    @property
    def runs(self) -> int:
        """How many runs ended."""
        return self.run.count
