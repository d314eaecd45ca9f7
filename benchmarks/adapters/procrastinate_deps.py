"""procrastinate_deps: asyncpg and uvloop, concurrency 100, defaults otherwise. Graphs are deferred as one statement."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta

import uvloop

import procrastinate_deps
from benchmarks.adapters.adapter import CONCURRENCY, CONCURRENCY_VARIABLE, FAR_FUTURE_S, Adapter, run
from benchmarks.adapters.shapes import Graph
from procrastinate_deps import statements
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.jobs import JobSpec
from procrastinate_deps.workflows import Node


class ProcrastinateDeps(Adapter):
    runner = staticmethod(uvloop.run)

    def __init__(self, dsn: str, tick: Callable[[float | None], None]) -> None:
        super().__init__(dsn, tick)
        self.app = procrastinate_deps.App(connector=self.connector())

        @self.app.task(name="noop")
        async def noop(sent_at: float | None = None) -> None:
            tick(sent_at)

        @self.app.task(name="nap")
        async def nap(seconds: float) -> None:
            tick(None)
            await asyncio.sleep(seconds)

        self.noop = noop
        self.nap = nap

    def connector(self) -> AsyncConnector:
        return procrastinate_deps.AsyncpgConnector(self.dsn)

    async def migrate(self) -> None:
        await self.app.schema_manager.apply_async()

    async def open(self) -> None:
        await self.app.open_async()

    async def defer(self, sent_at: float | None = None) -> None:
        await self.noop.defer_async(sent_at=sent_at)

    async def defer_batch(self, count: int, *, scheduled: bool = False) -> None:
        when = timedelta(seconds=FAR_FUTURE_S) if scheduled else None
        await self.noop.configure(schedule_in=when).batch_defer_async(*[{}] * count)

    async def defer_graph(self, jobs: Graph) -> None:
        specs = [JobSpec(task_name="noop", after=parents) for parents in jobs]
        await self.app.execute_async(statements.defer_jobs(specs))

    async def defer_naps(self, jobs: Graph, nap_s: float, *, by_critical_path: bool) -> None:
        async with self.app.workflow("naps", priority="critical_path" if by_critical_path else None) as wf:
            nodes: list[Node] = []
            for parents in jobs:
                nodes.append(wf.add(self.nap.configure(depends_on=[nodes[n] for n in parents]), seconds=nap_s))

    async def work(self) -> None:
        concurrency = int(os.environ.get(CONCURRENCY_VARIABLE, CONCURRENCY))
        async with self.app.open_async():
            await self.app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)


if __name__ == "__main__":
    run(ProcrastinateDeps)
