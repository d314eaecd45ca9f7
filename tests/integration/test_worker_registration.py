"""A worker that was declared lost registers again, whatever was under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from procrastinate_deps import App, PsycopgConnector
from procrastinate_deps.exceptions import WorkerNotRegistered
from tests.integration.worker_helpers import ended, query, until, working

if TYPE_CHECKING:
    from procrastinate_deps.statements import Statement

T = TypeVar("T")


class SlowToSayNo(PsycopgConnector):
    """That a worker isn't registered is heard from it when `heard` says so."""

    def __init__(self, dsn: str) -> None:
        super().__init__(conninfo=dsn)
        self.refused = 0
        self.heard = anyio.Event()

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        try:
            return await super().execute_async(statement, connection)
        except WorkerNotRegistered:
            self.refused += 1
            await self.heard.wait()
            raise


async def test_a_refusal_that_is_heard_after_the_new_registration_is_about_the_old_one(dsn: str) -> None:
    connector = SlowToSayNo(dsn)
    app = App(connector)

    @app.task(name="nothing")
    async def nothing() -> None: ...

    async with app.open_async(), working(app, update_heartbeat_interval=0.2, stalled_worker_timeout=20):
        await ended(app, await nothing.defer_async())
        ((before,),) = query(dsn, "UPDATE procrastinate_deps.workers SET lost_at = now() RETURNING id")
        job_id = await nothing.defer_async()
        await until(lambda: connector.refused, "a fetch that is refused")
        await until(
            lambda: query(dsn, "SELECT FROM procrastinate_deps.workers WHERE id > %s", before), "the new registration"
        )
        connector.heard.set()
        await ended(app, job_id)
