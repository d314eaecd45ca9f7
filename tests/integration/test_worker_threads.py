"""Plain functions run in threads: as many as jobs may run at the same time, used again and again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.integration.worker_helpers import DEADLINE_S, make_app, one_shot, query

if TYPE_CHECKING:
    from procrastinate_deps import App

MANY = 200


async def _run(app: App, barrier: threading.Barrier, jobs: int) -> set[threading.Thread]:
    """The threads in which so many jobs ran, each time as many at once as the barrier wants."""
    threads: set[threading.Thread] = set()

    @app.task
    def meet() -> None:
        threads.add(threading.current_thread())
        barrier.wait()

    await meet.batch_defer_async(*[{}] * jobs)
    await one_shot(app, concurrency=barrier.parties)
    return threads


@pytest.mark.parametrize("concurrency", [3, MANY])
async def test_a_thread_for_each_slot_and_no_more(dsn: str, concurrency: int) -> None:
    app = make_app(dsn)
    barrier = threading.Barrier(concurrency, timeout=DEADLINE_S)
    async with app.open_async():
        threads = await _run(app, barrier, jobs=5 * concurrency)
    assert len(threads) == concurrency
    assert query(dsn, "SELECT DISTINCT status::text FROM procrastinate_deps.jobs") == [("succeeded",)]
