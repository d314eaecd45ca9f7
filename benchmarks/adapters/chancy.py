"""
chancy: its async executor with concurrency 100 and eager polling, defaults otherwise.

The leader is polled for each second: by default a fresh worker leads, and so runs workflows, only after 60 s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from chancy import Chancy, Job, Queue, Worker
from chancy.plugins.leadership import Leadership
from chancy.plugins.workflow import Workflow, WorkflowPlugin

from benchmarks.adapters.adapter import CONCURRENCY, FAR_FUTURE_S, Adapter, run
from benchmarks.adapters.shapes import Graph

_tick: Callable[[float | None], None]


async def noop(sent_at: float | None = None) -> None:  # found by its module and name
    _tick(sent_at)


class ChancyAdapter(Adapter):
    def __init__(self, dsn: str, tick: Callable[[float | None], None]) -> None:
        global _tick
        super().__init__(dsn, tick)
        _tick = tick
        log = logging.getLogger("chancy")  # its own logger tells of every job, at INFO
        log.setLevel(logging.WARNING)
        self.chancy = Chancy(dsn, log=log, plugins=[Leadership(poll_interval=1, timeout=10)])

    async def migrate(self) -> None:
        async with self.chancy as chancy:
            await chancy.migrate()
            await chancy.declare(
                Queue(
                    "default",
                    executor=Chancy.Executor.Async,
                    concurrency=CONCURRENCY,
                    polling_interval=1,
                    eager_polling=True,
                )
            )

    async def open(self) -> None:
        await self.chancy.pool.open()

    async def defer(self, sent_at: float | None = None) -> None:
        await self.chancy.push(Job.from_func(noop, queue="default", kwargs={"sent_at": sent_at}))

    async def defer_batch(self, count: int, *, scheduled: bool = False) -> None:
        job = Job.from_func(noop, queue="default")
        if scheduled:
            when = datetime.now(UTC) + timedelta(seconds=FAR_FUTURE_S)
            job = job.with_scheduled_at(when)
        async for _ in self.chancy.push_many([job] * count):
            pass

    async def defer_graph(self, jobs: Graph) -> None:
        workflow = Workflow("benchmark")
        for n, parents in enumerate(jobs):
            workflow.add(f"step-{n}", Job.from_func(noop, queue="default"), [f"step-{parent}" for parent in parents])
        await WorkflowPlugin.push(self.chancy, workflow)

    async def work(self) -> None:
        async with self.chancy as chancy, Worker(chancy) as worker:
            await worker.wait_for_shutdown()


if __name__ == "__main__":
    run(ChancyAdapter)
