"""Every load in its smallest form, by this project's own adapters: it runs to its end, and gives figures."""

from __future__ import annotations

import dataclasses
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from benchmarks import harness, loads, peers
from benchmarks.adapters.shapes import graph
from benchmarks.bench import Bench
from benchmarks.crew import Installed
from benchmarks.loads import Load
from benchmarks.server import Server
from benchmarks.sizes import Sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps._embedded.cluster import Cluster

SIZES = Sizes(
    deferred=10,
    batch=100,
    drained=300,
    picked_up=10,
    fan=50,
    chancy_fan=50,
    chain=10,
    layers=3,
    layer=4,
    short_chains=4,
    long_chain=4,
    nap_s=0.001,
    scheduled=200,
    blocked=1_000,
    finished=1_000,
    fetches=8,
    ceiling_calls=16,
    ceiling_jobs=400,
)
# of this project in this environment, by both of its drivers
OURS = [
    pytest.param(load, name, id=f"{load.name}-{name}")
    for load in loads.LOADS
    for name in ("procrastinate_deps", "procrastinate_deps_psycopg")
    if load.takes(peers.BY_NAME[name])
]


@pytest.fixture(scope="module")
def bench(server: Cluster) -> Iterator[Bench]:
    bench = Bench(Server(server, prefix=f"smoke{uuid.uuid4().hex[:8]}"), SIZES)
    yield bench
    bench.drop_all()


def installed(name: str, tmp_path: Path) -> Installed:
    """Without waiting for the worker to be idle: that would only be worth it where times matter."""
    peer = dataclasses.replace(peers.BY_NAME[name], settle_s=0.0)
    return Installed(peer, Path(sys.executable), tmp_path / "log")


@pytest.mark.parametrize(("load", "name"), OURS)
def test_a_load_runs_to_its_end(load: Load, name: str, bench: Bench, tmp_path: Path) -> None:
    run = harness.measure(load, bench, installed(name, tmp_path))
    assert run is not None
    assert run.failed is None
    assert not run.capped
    assert run.figures
    assert min(run.figures.values()) > 0
    assert "run_again" not in run.figures


def test_a_peer_that_fails_is_a_result_that_says_why(bench: Bench, tmp_path: Path) -> None:
    one = installed("procrastinate_deps", tmp_path)
    broken = dataclasses.replace(one, peer=dataclasses.replace(one.peer, name="no_such_adapter"))
    run = harness.measure(loads.BY_NAME["drain-1"], bench, broken)
    assert run is not None
    assert run.failed is not None
    assert "no_such_adapter" in run.failed


def test_what_is_blocked_or_scheduled_is_not_due(bench: Bench, tmp_path: Path) -> None:
    """The end of a drain behind a backlog: asked by this condition, the backlog must not count, and a due job must."""
    one = installed("procrastinate_deps", tmp_path)
    kinds = {"empty": False, "due": True, "scheduled": True, "blocked": True, "ceiling": True}
    for kind, due in kinds.items():
        with bench.fresh(one, kind) as database:
            assert bench.server.value(f"SELECT {one.peer.unfinished}", database) is due, kind
            with psycopg.connect(bench.server.dsn(database), autocommit=True) as connection:
                connection.execute("DELETE FROM procrastinate_deps.jobs WHERE status = 'todo' AND gate IS NULL")
            assert bench.server.value(f"SELECT {one.peer.unfinished}", database) is False, kind


@pytest.mark.parametrize(
    ("shape", "size", "width", "jobs", "edges"),
    [
        ("independent", 10_000, 1, 10_000, 0),
        ("chain", 1_000, 1, 1_000, 999),
        ("fan-out", 10_000, 1, 10_001, 10_000),
        ("fan-in", 10_000, 1, 10_001, 10_000),
        ("layered", 50, 20, 1_000, 49 * 400),
        ("unequal", 60, 150, 420, 120 + 300 - 152),
    ],
)
def test_the_shapes(shape: str, size: int, width: int, jobs: int, edges: int) -> None:
    made = graph(shape, size, width)
    assert len(made) == jobs
    assert sum(len(set(parents)) for parents in made) == edges
    assert all(parent < job for job, parents in enumerate(made) for parent in parents)
