"""procrastinate: concurrency 100, a pool of 20, defaults otherwise (LISTEN is on)."""

from __future__ import annotations

from collections.abc import Callable

import procrastinate

from benchmarks.adapters.adapter import CONCURRENCY, FAR_FUTURE_S, Adapter, run


class Procrastinate(Adapter):
    def __init__(self, dsn: str, tick: Callable[[float | None], None]) -> None:
        super().__init__(dsn, tick)
        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, max_size=20))

        @self.app.task(name="noop")
        async def noop(sent_at: float | None = None) -> None:
            tick(sent_at)

        @self.app.task(name="link")
        async def link(left: int) -> None:
            tick(None)
            if left > 1:
                await link.defer_async(left=left - 1)

        self.noop = noop
        self.link = link

    async def migrate(self) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        await self.app.open_async()

    async def defer(self, sent_at: float | None = None) -> None:
        await self.noop.defer_async(sent_at=sent_at)

    async def defer_batch(self, count: int, *, scheduled: bool = False) -> None:
        task = self.noop.configure(schedule_in={"seconds": FAR_FUTURE_S}) if scheduled else self.noop
        await task.batch_defer_async(*[{}] * count)

    async def defer_chain(self, length: int) -> None:
        await self.link.defer_async(left=length)

    async def work(self) -> None:
        async with self.app.open_async():
            await self.app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)


if __name__ == "__main__":
    run(Procrastinate)
