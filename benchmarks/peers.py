"""What is measured: this project by both of its async drivers, and its peers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    One system that is measured; `benchmarks.adapters` has a module of the same name.

    environment: its virtual environment, and the file of its pinned requirements.
    unfinished: SQL, whether a job that is due has not ended.
    dependencies: whether it enforces them; others chain jobs by deferring the next from each.
    settle_s: from a worker's first job until it is taken for idle.
    """

    name: str
    environment: str
    distribution: str
    settings: str
    keeps: str
    unfinished: str
    least_python: tuple[int, int] = (3, 11)
    dependencies: bool = False
    settle_s: float = 1.0

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.environment}.txt"

    @property
    def ours(self) -> bool:
        return self.environment == OURS


OURS = "procrastinate_deps"

_OURS_UNFINISHED = """
EXISTS (SELECT FROM procrastinate_deps.jobs WHERE status = 'doing')
OR EXISTS (SELECT FROM procrastinate_deps.jobs WHERE status = 'todo' AND gate IS NULL)
"""

PEERS = (
    Peer(
        name="procrastinate_deps",
        environment=OURS,
        distribution="procrastinate-deps",
        settings="asyncpg, uvloop, concurrency 100",
        keeps="the job's row stays; ends are written as soon as no other write of ends is under way",
        unfinished=_OURS_UNFINISHED,
        dependencies=True,
    ),
    Peer(
        name="procrastinate_deps_psycopg",
        environment=OURS,
        distribution="procrastinate-deps",
        settings="psycopg instead of asyncpg, all else the same",
        keeps="as above",
        unfinished=_OURS_UNFINISHED,
        dependencies=True,
    ),
    Peer(
        name="pgqueuer",
        environment="pgqueuer",
        distribution="pgqueuer",
        settings="asyncpg, one connection, uvloop as its command line, `batch_size=100`, `pgq autovac`",
        keeps="the job's row is deleted and a row of its log written; ends are buffered for up to 0.1 s",
        unfinished="EXISTS (SELECT FROM pgqueuer WHERE execute_after <= now())",
    ),
    Peer(
        name="oban",
        environment="oban",
        distribution="oban",
        settings="the free edition, uvloop as its command line, queue limit 100",
        keeps="the job's row stays; ends are buffered until the next fetch",
        unfinished="EXISTS (SELECT FROM oban_jobs WHERE state IN ('available', 'executing', 'retryable'))",
        least_python=(3, 12),
    ),
    Peer(
        name="chancy",
        environment="chancy",
        distribution="chancy",
        settings="async executor, concurrency 100, eager polling, leader polled for each second (default: 60 s)",
        keeps="the job's row stays; ends are buffered for up to 1 s",
        unfinished="EXISTS (SELECT FROM chancy_jobs WHERE state IN ('pending', 'running', 'retrying') "
        "AND scheduled_at <= now())",
        dependencies=True,
        settle_s=3.0,
    ),
    Peer(
        name="procrastinate",
        environment="procrastinate",
        distribution="procrastinate",
        settings="concurrency 100, a pool of 20 connections",
        keeps="the job's row stays; each end is a statement of its own",
        unfinished="EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing') "
        "AND (scheduled_at IS NULL OR scheduled_at <= now()))",
    ),
)
BY_NAME = {peer.name: peer for peer in PEERS}
