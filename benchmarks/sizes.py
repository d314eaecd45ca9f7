"""How much of each load is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """
    Numbers of jobs, unless the name says otherwise; the defaults are those of a full run.

    drain_cap_s, graph_cap_s: after this long a worker is stopped, and its rate is that of the jobs it did by then.
    short_chains, long_chain: how many chains of one to three jobs, and how long the two others are.
    naps_at_once: how many of their jobs run at the same time; each sleeps nap_s.
    chancy_fan: chancy's leader writes every step of a workflow anew for each that ends.
    """

    deferred: int = 5_000
    batch: int = 100_000
    drained: int = 50_000
    drain_cap_s: float = 15
    picked_up: int = 500
    pick_up_gap_s: float = 0.02
    fan: int = 10_000
    chancy_fan: int = 1_000
    chain: int = 1_000
    layers: int = 50
    layer: int = 20
    graph_cap_s: float = 20
    short_chains: int = 150
    long_chain: int = 60
    nap_s: float = 0.02
    naps_at_once: int = 4
    scheduled: int = 500_000
    blocked: int = 1_000_000
    finished: int = 1_000_000
    fetches: int = 100
    ceiling_calls: int = 4_000
    ceiling_jobs: int = 200_000


FULL = Sizes()
QUICK = Sizes(
    deferred=500,
    batch=10_000,
    drained=5_000,
    drain_cap_s=10,
    picked_up=50,
    fan=1_000,
    chancy_fan=100,
    chain=100,
    layers=10,
    layer=20,
    graph_cap_s=10,
    short_chains=30,
    long_chain=15,
    scheduled=10_000,
    blocked=10_000,
    finished=10_000,
    fetches=20,
    ceiling_calls=400,
    ceiling_jobs=20_000,
)
