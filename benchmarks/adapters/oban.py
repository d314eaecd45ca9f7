"""oban, the free edition, which has no workflows: queue limit 100, uvloop as its command line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import uvloop
from oban import Oban, job
from oban.schema import install

from benchmarks.adapters.adapter import CONCURRENCY, FAR_FUTURE_S, Adapter, run

_tick: Callable[[float | None], None]


@job(queue="default")
async def noop(sent_at: float | None = None) -> None:
    _tick(sent_at)


@job(queue="default")
async def link(left: int) -> None:
    _tick(None)
    if left > 1:
        await Oban.get_instance().enqueue(link.new(left - 1))


class ObanAdapter(Adapter):
    runner = staticmethod(uvloop.run)

    def __init__(self, dsn: str, tick: Callable[[float | None], None]) -> None:
        global _tick
        super().__init__(dsn, tick)
        _tick = tick

    async def migrate(self) -> None:
        await install(await Oban.create_pool(self.dsn))

    async def open(self) -> None:
        self.oban = await Oban(pool=await Oban.create_pool(self.dsn)).start()

    async def defer(self, sent_at: float | None = None) -> None:
        await self.oban.enqueue(noop.new(sent_at))

    async def defer_batch(self, count: int, *, scheduled: bool = False) -> None:
        jobs = [noop.new() for _ in range(count)]
        if scheduled:
            when = datetime.now(UTC) + timedelta(seconds=FAR_FUTURE_S)
            for each in jobs:
                each.scheduled_at = when
        await self.oban.enqueue_many(jobs)

    async def defer_chain(self, length: int) -> None:
        await self.oban.enqueue(link.new(length))

    async def work(self) -> None:
        pool = await Oban.create_pool(self.dsn)
        async with Oban(pool=pool, queues={"default": CONCURRENCY}):
            await asyncio.Event().wait()


if __name__ == "__main__":
    run(ObanAdapter)
