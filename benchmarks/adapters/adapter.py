"""
What every adapter shares: the scoreboard that its jobs write to, and the command line that the harness drives it by.

It runs in the measured system's environment, so it imports nothing but the standard library.

    migrate | defer COUNT | batch COUNT [scheduled] | pick-up COUNT GAP_S WARM_UP | graph SHAPE SIZE WIDTH |
    chain LENGTH | work
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.adapters.shapes import Graph, graph

DSN_VARIABLE = "BENCHMARK_DSN"
SCOREBOARD_VARIABLE = "BENCHMARK_SCOREBOARD"
CONCURRENCY_VARIABLE = "BENCHMARK_CONCURRENCY"  # in place of CONCURRENCY; ours alone read it
CONCURRENCY = 100
BATCH = 1_000
FAR_FUTURE_S = 7 * 86_400
# Jobs on a scoreboard: more are counted, and their times are not kept.
SCOREBOARD_CELLS = 200_000


class Scoreboard:
    """
    How many bodies have run, and when: doubles in a file that the harness maps too.

    A body costs some 0.2 µs more by it, and the worker process needs no thread that reports. Times are of the monotonic
    clock, which all processes of a machine share.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
        self._count = 0

    def tick(self, sent_at: float | None = None) -> None:
        """The body of every benchmark job. sent_at: when the job was about to be deferred."""
        now = time.monotonic()
        count = self._count
        if count < SCOREBOARD_CELLS:
            self._cells[1 + 2 * count] = now
            self._cells[2 + 2 * count] = 0.0 if sent_at is None else now - sent_at
        self._count = count + 1
        self._cells[0] = count + 1


class Adapter(ABC):
    """One system under measurement. A module of it ends with `run(TheAdapter)`."""

    # uvloop's where the system's own command line takes it
    runner: ClassVar[Callable[..., Any]] = staticmethod(asyncio.run)

    def __init__(self, dsn: str, tick: Callable[[float | None], None]) -> None:
        self.dsn = dsn
        self.tick = tick

    @abstractmethod
    async def migrate(self) -> None:
        """Make the tables, and what else an operator would set once."""

    @abstractmethod
    async def open(self) -> None:
        """Connect to defer jobs."""

    @abstractmethod
    async def defer(self, sent_at: float | None = None) -> None:
        """One job."""

    @abstractmethod
    async def defer_batch(self, count: int, *, scheduled: bool = False) -> None:
        """At most BATCH jobs by the system's own call for many. scheduled: for a time that does not come."""

    async def defer_graph(self, jobs: Graph) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no dependencies")

    async def defer_naps(self, jobs: Graph, nap_s: float, *, by_critical_path: bool) -> None:
        """A graph of jobs that sleep, ours alone."""
        raise NotImplementedError(f"{type(self).__name__} has no priorities by the critical path")

    async def defer_chain(self, length: int) -> None:
        """Where there are no dependencies: a chain in which each job defers the next."""
        raise NotImplementedError(f"{type(self).__name__} has dependencies: see defer_graph")

    @abstractmethod
    async def work(self) -> None:
        """Run one worker until the process is killed."""


def run(adapter: Callable[[str, Callable[[float | None], None]], Adapter]) -> None:
    """Do what the command line says, and end the process."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    scoreboard = os.environ.get(SCOREBOARD_VARIABLE)
    tick = Scoreboard(Path(scoreboard)).tick if scoreboard else _no_scoreboard
    made = adapter(os.environ[DSN_VARIABLE], tick)
    type(made).runner(_command(made, *sys.argv[1:]))


def _no_scoreboard(sent_at: float | None = None) -> None:
    raise RuntimeError(f"a job ran in a process without {SCOREBOARD_VARIABLE}")


async def _command(adapter: Adapter, command: str, *arguments: str) -> None:
    if command == "work":
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        threading.Thread(target=_die_with_the_harness, daemon=True).start()
        await adapter.work()
        return
    if command == "migrate":
        await adapter.migrate()
        began = ended = 0.0
    else:
        await adapter.open()
        began = time.monotonic()
        await _defer(adapter, command, *arguments)
        ended = time.monotonic()
    print(json.dumps({"began": began, "ended": ended}), flush=True)
    os._exit(0)  # not every system closes quickly


async def _defer(adapter: Adapter, command: str, *arguments: str) -> None:
    match command, *arguments:
        case "defer", count:
            for _ in range(int(count)):
                await adapter.defer()
        case "batch", count, *scheduled:
            for start in range(0, int(count), BATCH):
                await adapter.defer_batch(min(BATCH, int(count) - start), scheduled=bool(scheduled))
        case "pick-up", count, gap_s, warm_up:
            for _ in range(int(warm_up)):
                await adapter.defer()
            began = time.monotonic() + float(gap_s)
            for n in range(int(count)):
                await asyncio.sleep(max(0.0, began + n * float(gap_s) - time.monotonic()))
                await adapter.defer(time.monotonic())
        case "graph", shape, size, width:
            await adapter.defer_graph(graph(shape, int(size), int(width)))
        case "naps", shape, size, width, nap_s, by:
            jobs = graph(shape, int(size), int(width))
            await adapter.defer_naps(jobs, float(nap_s), by_critical_path=by == "critical-path")
        case "chain", length:
            await adapter.defer_chain(int(length))
        case _:
            raise SystemExit(f"unknown command: {command} {' '.join(arguments)}")


def _die_with_the_harness() -> None:
    """Standard input ends with the harness: a worker that outlived it would take the next run's jobs."""
    sys.stdin.read()
    os._exit(1)
