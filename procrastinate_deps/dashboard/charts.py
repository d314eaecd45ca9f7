"""The numbers of runs as charts: where bars and lines stand, to be drawn by the templates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from procrastinate_deps.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.durations import JobStats

WIDTH = 1000.0
HEIGHT = 100.0

LATENCIES = (
    (0.001, "1 ms"),
    (0.01, "10 ms"),
    (0.1, "100 ms"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 min"),
    (600.0, "10 min"),
    (3600.0, "1 h"),
    (36000.0, "10 h"),
    (864000.0, "10 d"),
    (8640000.0, "100 d"),
)
"""The lines of the logarithmic scale of durations."""

WINDOWS = {"hour": (timedelta(hours=1), timedelta(minutes=1)), "day": (timedelta(days=1), timedelta(minutes=15))}
"""Of each window how long it is, and its step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One step of time. Percentiles are in seconds; None: nothing ran."""

    start: datetime
    succeeded: int
    failed: int
    run_p50_s: float | None
    run_p95_s: float | None
    wait_p50_s: float | None
    wait_p95_s: float | None

    @property
    def runs(self) -> int:
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    x: float
    width: float
    succeeded_y: float
    succeeded_height: float
    failed_y: float
    failed_height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    label: str
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """Both charts of one window. Coordinates are in a box of `WIDTH` by `HEIGHT`, from its upper left corner."""

    slots: Sequence[Slot]
    step_s: float
    runs: int
    failed: int
    per_minute: float
    rate_top: float
    latency_ticks: Sequence[Tick]
    bars: Sequence[Bar]
    run_line: str
    run_band: str
    wait_line: str


def slots(by_status: Sequence[JobStats], merged: Sequence[JobStats], window: str, now: datetime) -> list[Slot]:
    """Every step of the window, those without runs too.

    Parameters
    ----------
    by_status:
        Counted apart by status, without histograms.
    merged:
        Not counted apart, with histograms.
    """
    length, step = WINDOWS[window]
    step_s = step.total_seconds()
    last = datetime.fromtimestamp(now.timestamp() // step_s * step_s, UTC)
    starts = [last - step * back for back in range(int(length / step) - 1, -1, -1)]
    runs: dict[tuple[datetime, bool], int] = {}
    for stats in by_status:
        key = (stats.start, stats.status is Status.SUCCEEDED)
        runs[key] = runs.get(key, 0) + stats.runs
    durations = {stats.start: stats for stats in merged}
    found = []
    for start in starts:
        at = durations.get(start)
        found.append(
            Slot(
                start=start,
                succeeded=runs.get((start, True), 0),
                failed=runs.get((start, False), 0),
                run_p50_s=None if at is None else at.run.percentile(50),
                run_p95_s=None if at is None else at.run.percentile(95),
                wait_p50_s=None if at is None else at.wait.percentile(50),
                wait_p95_s=None if at is None else at.wait.percentile(95),
            )
        )
    return found


def draw(series: Sequence[Slot], window: str) -> Charts:
    """Where everything stands."""
    length, step = WINDOWS[window]
    rate_top = nice_top(max((slot.runs for slot in series), default=0))
    latencies = [value for slot in series for value in (slot.run_p95_s, slot.wait_p95_s) if value is not None]
    latency_top = next((top for top, _ in LATENCIES[2:] if top >= max(latencies, default=1.0)), LATENCIES[-1][0])
    width = WIDTH / len(series)
    bars = []
    for at, slot in enumerate(series):
        succeeded, failed = (HEIGHT * count / rate_top for count in (slot.succeeded, slot.failed))
        bars.append(
            Bar(
                x=round(at * width + width * 0.1, 2),
                width=round(width * 0.8, 2),
                succeeded_y=round(HEIGHT - succeeded, 2),
                succeeded_height=round(succeeded, 2),
                failed_y=round(HEIGHT - succeeded - failed, 2),
                failed_height=round(failed, 2),
            )
        )
    p95 = _points([slot.run_p95_s for slot in series], latency_top)
    p50 = _points([slot.run_p50_s for slot in series], latency_top)
    total = sum(slot.runs for slot in series)
    return Charts(
        slots=series,
        step_s=step.total_seconds(),
        runs=total,
        failed=sum(slot.failed for slot in series),
        per_minute=total / (length.total_seconds() / 60),
        rate_top=rate_top,
        latency_ticks=[
            Tick(label=label, y=round(HEIGHT * (1 - _height(value, latency_top)), 2))
            for value, label in LATENCIES
            if value <= latency_top
        ],
        bars=bars,
        run_line=_line(p95),
        run_band="".join(_area(upper, lower) for upper, lower in zip(_stretches(p95), _stretches(p50), strict=True)),
        wait_line=_line(_points([slot.wait_p95_s for slot in series], latency_top)),
    )


def nice_top(value: float) -> float:
    """The least of 1, 2, 5 times a power of ten that isn't below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


_Points = list["tuple[float, float] | None"]


def _points(values: Sequence[float | None], top: float) -> _Points:
    step = WIDTH / len(values)
    return [
        None if value is None else (round((at + 0.5) * step, 2), round(HEIGHT * (1 - _height(value, top)), 2))
        for at, value in enumerate(values)
    ]


def _height(value: float, top: float) -> float:
    """On a logarithmic scale, from 0 to 1."""
    bottom = LATENCIES[0][0]
    return math.log(min(max(value, bottom), top) / bottom) / math.log(top / bottom)


def _stretches(points: _Points) -> list[list[tuple[float, float]]]:
    """Without the gaps."""
    found: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is not None:
            found[-1].append(point)
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def _line(points: _Points) -> str:
    """A path; a point that stands alone is as wide as half a step, so that it is seen."""
    parts = []
    half = WIDTH / len(points) / 4
    for stretch in _stretches(points):
        if len(stretch) == 1:
            [(x, y)] = stretch
            stretch = [(round(x - half, 2), y), (round(x + half, 2), y)]
        parts.append("M" + "L".join(f"{x} {y}" for x, y in stretch))
    return "".join(parts)


def _area(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in [*upper, *reversed(lower)]) + "Z"
