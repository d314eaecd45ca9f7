"""Waiting through a pooler that gives each transaction another session: by polling, or by listening elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from tests.integration import poolers
from tests.integration.waiting_helpers import end, wait_until_heard, waited_for
from tests.integration.worker_helpers import DEADLINE_S, make_app, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps._embedded.cluster import Cluster
    from tests.integration.poolers import PgBouncer


@pytest.fixture(scope="module")
def pooler(server: Cluster) -> Iterator[PgBouncer]:
    with poolers.pgbouncer(server) as pooler:
        yield pooler


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("way", ["async", "sync"])
async def test_by_polling(pooler: PgBouncer, dsn: str, driver: str, way: str) -> None:
    app = make_app(pooler.through(dsn), driver, prepare_statements=False)
    results: list[object] = []
    async with app.open_async():
        job_id = await app.configure_task("t").defer_async()

        async def wait() -> None:
            if way == "async":
                results.append(await app.wait_for_job_async(job_id, DEADLINE_S))
            else:
                results.append(await anyio.to_thread.run_sync(app.wait_for_job, job_id, DEADLINE_S))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await until(lambda: waited_for(dsn) == [job_id], "a wait")
            end(dsn, job_id, result=6)
    assert results == [6]


@pytest.mark.usefixtures("no_polling")
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("way", ["async", "sync"])
async def test_by_listening_directly(pooler: PgBouncer, dsn: str, driver: str, way: str) -> None:
    app = make_app(pooler.through(dsn), driver, prepare_statements=False, listen_dsn=dsn)
    results: list[object] = []
    async with app.open_async():
        job_id = await app.configure_task("t").defer_async()

        async def wait() -> None:
            if way == "async":
                results.append(await app.wait_for_job_async(job_id, DEADLINE_S))
            else:
                results.append(await anyio.to_thread.run_sync(app.wait_for_job, job_id, DEADLINE_S))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.to_thread.run_sync(wait_until_heard, dsn, job_id)
            end(dsn, job_id, result=6)
    assert results == [6]
