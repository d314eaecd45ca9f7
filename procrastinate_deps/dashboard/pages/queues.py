"""The queues, how deep they are, and which of them are paused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.dashboard.pages.workers import is_live
from procrastinate_deps.dashboard.state import state_of

if TYPE_CHECKING:
    from starlette.requests import Request


async def read(request: Request) -> dict[str, Any]:
    state = state_of(request)
    queues = await state.reads.execute_async(statements.dashboard_queues())
    workers = [worker for worker in await state.reader.list_workers_async() if is_live(worker)]
    return {
        "queues": queues,
        "workers_of": {
            queue.name: sum(worker.queues is None or queue.name in worker.queues for worker in workers)
            for queue in queues
        },
    }
