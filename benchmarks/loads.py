"""The loads, in the order in which a round runs them, and who takes part in which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks import measures
from benchmarks.bench import Bench
from benchmarks.crew import Installed
from benchmarks.measures import Measured
from benchmarks.peers import OURS, Peer

SHAPES = ("independent", "chain", "fan-out", "fan-in", "layered")
BATCHES = (1, 10, 100)


@dataclass(frozen=True, slots=True)
class Load:
    """
    takes: whether a peer can do it.
    once_if_capped: one that was stopped before its end is not run again in later rounds.
    """

    name: str
    measure: Callable[[Bench, Installed], Measured | None]
    takes: Callable[[Peer], bool]
    once_if_capped: bool = False


def everybody(peer: Peer) -> bool:
    return True


def has_dependencies(peer: Peer) -> bool:
    return peer.dependencies


def ours(peer: Peer) -> bool:
    return peer.name == OURS


LOADS = (
    Load("defer", partial(measures.defer, command="defer"), everybody),
    Load("batch", partial(measures.defer, command="batch"), everybody),
    Load("drain-1", partial(measures.drain, processes=1), everybody),
    Load("drain-2", partial(measures.drain, processes=2), everybody),
    Load("pick-up", measures.pick_up, everybody),
    *(
        Load(
            f"graph-{shape}",
            partial(measures.run_graph, shape=shape),
            # a chain can be made by hand: each job defers the next
            everybody if shape == "chain" else has_dependencies,
            once_if_capped=True,
        )
        for shape in SHAPES
    ),
    Load("graph-critical-path", measures.critical_path, ours),
    Load("behind-scheduled", partial(measures.drain_behind, kind="scheduled"), everybody),
    Load("behind-blocked", partial(measures.drain_behind, kind="blocked"), ours),
    Load("fetch", measures.fetch, ours),
    *(Load(f"ceiling-{batch}", partial(measures.ceiling, batch=batch), ours) for batch in BATCHES),
)
BY_NAME = {load.name: load for load in LOADS}
