"""pgqueuer: asyncpg on one connection and uvloop, as its command line; `pgq autovac`, and batch_size 100."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import Any

import asyncpg
import pgqueuer
import uvloop
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.adapters.adapter import CONCURRENCY, FAR_FUTURE_S, Adapter, run


class Pgqueuer(Adapter):
    runner = staticmethod(uvloop.run)

    async def migrate(self) -> None:
        for command in ("install", "autovac"):
            await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "pgqueuer", "--pg-dsn", self.dsn, command],
                stdout=subprocess.DEVNULL,
                check=True,
            )

    async def open(self) -> None:
        self.queries = Queries(AsyncpgDriver(await asyncpg.connect(self.dsn)))

    async def defer(self, sent_at: float | None = None) -> None:
        await self.queries.enqueue("noop", None if sent_at is None else repr(sent_at).encode())

    async def defer_batch(self, count: int, *, scheduled: bool = False) -> None:
        after = timedelta(seconds=FAR_FUTURE_S) if scheduled else None
        await self.queries.enqueue(["noop"] * count, [None] * count, [0] * count, [after] * count)

    async def defer_chain(self, length: int) -> None:
        await self.queries.enqueue("link", b"%d" % length)

    async def work(self) -> None:
        worker = pgqueuer.PgQueuer(AsyncpgDriver(await asyncpg.connect(self.dsn)))

        @worker.entrypoint("noop")
        async def noop(job: Any) -> None:
            self.tick(float(job.payload) if job.payload else None)

        @worker.entrypoint("link")
        async def link(job: Any) -> None:
            self.tick(None)
            if (left := int(job.payload)) > 1:
                await worker.qm.queries.enqueue("link", b"%d" % (left - 1))

        await worker.run(batch_size=CONCURRENCY)


if __name__ == "__main__":
    run(Pgqueuer)
