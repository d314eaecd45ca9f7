"""What the project holds itself to: ratios of the same rounds, judged by their medians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.peers import OURS
from benchmarks.results import Results, Spread

# A load, a peer, and which of the load's figures
Cell: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Bar:
    """
    A limit for a figure of ours, or for its ratio to another one.

    at_least: whether more is better.
    """

    what: str
    ours: Cell
    to: Cell | None
    at_least: bool
    limit: float
    unit: str = "×"

    @property
    def asked(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"

    def values(self, results: Results) -> list[float]:
        """One for each round."""
        return list(results.values(*self.ours).values()) if self.to is None else results.ratios(self.ours, self.to)

    def was_tried(self, results: Results) -> bool:
        """Whether every run was tried that it takes to judge. A failed one makes a miss; one not asked for doesn't."""
        cells = [self.ours] if self.to is None else [self.ours, self.to]
        return all(results.of(load, peer) for load, peer, _ in cells)


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    spread: None where nothing was measured.
    tried: whether it was to be measured.
    """

    bar: Bar
    spread: Spread | None
    tried: bool

    @property
    def missed(self) -> bool:
        if self.spread is None:
            return self.tried
        return self.spread.median < self.bar.limit if self.bar.at_least else self.spread.median > self.bar.limit

    @property
    def word(self) -> str:
        return "not measured" if not self.tried else "miss" if self.missed else "pass"

    def __str__(self) -> str:
        line = f"{self.word:12}  {self.bar.what}: asked {self.bar.asked}"
        if self.spread is None:
            return line
        spread = self.spread
        return f"{line}, measured {spread.median:.3g} ({spread.least:.3g}–{spread.most:.3g})"


def judge(results: Results) -> list[Verdict]:
    return [Verdict(bar, Spread.of(bar.values(results)), bar.was_tried(results)) for bar in BARS]


def _rate(load: str, peer: str = OURS) -> Cell:
    return load, peer, "jobs_per_s"


BARS = (
    Bar("drain by one process, to pgqueuer", _rate("drain-1"), _rate("drain-1", "pgqueuer"), True, 1.5),
    Bar("drain by one process, to procrastinate", _rate("drain-1"), _rate("drain-1", "procrastinate"), True, 20),
    Bar("drain by two processes, to one", _rate("drain-2"), _rate("drain-1"), True, 1),
    Bar("drain behind scheduled jobs, to without", ("behind-scheduled", OURS, "ratio"), None, True, 0.9),
    Bar("drain behind blocked jobs, to without", ("behind-blocked", OURS, "ratio"), None, True, 0.9),
    Bar("time of a fetch behind blocked and finished jobs, to without", ("fetch", OURS, "ratio"), None, False, 1.5),
    Bar("defer in batch, to procrastinate", _rate("batch"), _rate("batch", "procrastinate"), True, 2.5),
    Bar("defer one at a time, to pgqueuer", _rate("defer"), _rate("defer", "pgqueuer"), True, 1),
    Bar(
        "pick-up p50, to procrastinate",
        ("pick-up", OURS, "p50_ms"),
        ("pick-up", "procrastinate", "p50_ms"),
        False,
        1,
    ),
    Bar(
        "pick-up p99, to procrastinate",
        ("pick-up", OURS, "p99_ms"),
        ("pick-up", "procrastinate", "p99_ms"),
        False,
        0.5,
    ),
    Bar("chain, per edge", ("graph-chain", OURS, "edge_ms"), None, False, 4, unit="ms"),
    Bar("fan-out, to independent jobs", _rate("graph-fan-out"), _rate("graph-independent"), True, 0.6),
    Bar("fan-in, to independent jobs", _rate("graph-fan-in"), _rate("graph-independent"), True, 0.6),
    Bar("layered, to independent jobs", _rate("graph-layered"), _rate("graph-independent"), True, 0.6),
)
