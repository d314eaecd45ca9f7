"""What the worker's tests share."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import anyio
import psycopg

from procrastinate_deps import App, AsyncpgConnector, PsycopgConnector
from procrastinate_deps.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from procrastinate_deps.jobs import Job

# Longer than any test takes: whatever happens in time was not found by polling.
NO_POLLING_S = 300.0
DEADLINE_S = 30.0


def make_app(dsn: str, driver: str = "psycopg", **options: Any) -> App:
    return App(PsycopgConnector(conninfo=dsn, **options) if driver == "psycopg" else AsyncpgConnector(dsn, **options))


@contextlib.asynccontextmanager
async def working(app: App, **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs until the block is left, and finds nothing by polling."""
    options = {
        "fetch_job_polling_interval": NO_POLLING_S,
        "abort_job_polling_interval": NO_POLLING_S,
        "shutdown_graceful_timeout": 5,
        **options,
    }
    worker = Worker(app, install_signal_handlers=False, **options)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        try:
            yield worker
        finally:
            worker.stop()


async def one_shot(app: App, **options: Any) -> None:
    with anyio.fail_after(DEADLINE_S):
        await Worker(app, install_signal_handlers=False, wait=False, **options).run()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that this process can see."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {DEADLINE_S} s")
        await anyio.sleep(0.005)


async def job_when(app: App, job_id: int, *statuses: str) -> Job:
    """The job's row, once its status is one of these."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        jobs = list(await app.job_manager.list_jobs_async(id=job_id))
        if jobs and jobs[0].status in statuses:
            return jobs[0]
        if time.monotonic() > deadline:
            raise AssertionError(f"job {job_id} is {jobs and jobs[0].status}, not {statuses}, after {DEADLINE_S} s")
        await anyio.sleep(0.01)


async def ended(app: App, job_id: int) -> Job:
    return await job_when(app, job_id, "succeeded", "failed", "cancelled", "aborted")


async def idle(worker: Worker) -> None:
    """Wait until the worker has nothing to do: it listens, its last fetch brought nothing, and it sleeps."""
    await until(lambda: worker._shift is not None and worker._shift._exchange.sleeping, "an idle worker")


async def events(app: App, job_id: int) -> list[str]:
    return [event.type for event in await app.job_manager.list_events_async(job_id)]


def query(dsn: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(sql.encode(), values or None)
        return [] if cursor.description is None else cursor.fetchall()


class Overlap:
    """How many are inside at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1
