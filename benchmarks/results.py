"""What was measured: runs, with what they were measured on; medians, spreads, and ratios within a round."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Run:
    """
    One load of one peer in one round.

    capped: stopped before its end; the figures are of what was done by then.
    failed: why there are no figures.
    """

    load: str
    peer: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    capped: bool = False
    failed: str | None = None
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """None without values."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found), len(found)) if found else None


@dataclass(frozen=True, slots=True)
class About:
    """
    What a set of runs was measured on and with.

    versions: by environment, of the peer and its drivers.
    left_out: peers that could not be installed, and why.
    """

    date: str
    cores: int
    memory_gib: int
    system: str
    python: str
    postgresql: str
    settings: dict[str, str]
    sizes: dict[str, float]
    rounds: int
    versions: dict[str, dict[str, str]]
    left_out: dict[str, str]


@dataclass(frozen=True, slots=True)
class Results:
    about: About
    runs: Sequence[Run]

    def of(self, load: str, peer: str) -> list[Run]:
        return [run for run in self.runs if run.load == load and run.peer == peer]

    def values(self, load: str, peer: str, figure: str) -> dict[int, float]:
        """By round."""
        return {run.round: run.figures[figure] for run in self.of(load, peer) if figure in run.figures}

    def spread(self, load: str, peer: str, figure: str) -> Spread | None:
        return Spread.of(self.values(load, peer, figure).values())

    def ratios(self, above: tuple[str, str, str], below: tuple[str, str, str]) -> list[float]:
        """above / below, each a (load, peer, figure), in every round that has both."""
        tops, bottoms = self.values(*above), self.values(*below)
        return [tops[turn] / bottoms[turn] for turn in sorted(tops.keys() & bottoms.keys())]

    # -- as a file

    def write(self, path: Path) -> None:
        """One run a line, so that a new set of results can be compared with the one before."""
        about = json.dumps(asdict(self.about), indent=1)
        runs = ",\n".join(json.dumps(asdict(run)) for run in self.runs)
        path.write_text(f'{{"about": {about},\n"runs": [\n{runs}\n]}}\n', encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(About(**content["about"]), [Run(**run) for run in content["runs"]])
