"""The workers: who lives, what they run, and who is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps.dashboard.state import state_of
from procrastinate_deps.statements import STALLED_AFTER_S

if TYPE_CHECKING:
    from starlette.requests import Request

    from procrastinate_deps.jobs import WorkerInfo


async def read(request: Request) -> dict[str, Any]:
    workers = await state_of(request).reader.list_workers_async()
    return {
        "workers": workers,
        "alive": sum(is_live(worker) for worker in workers),
        "live_ids": [worker.id for worker in workers if is_live(worker)],
        "versions": sorted({worker.version for worker in workers if is_live(worker)}),
    }


def is_live(worker: WorkerInfo) -> bool:
    """Whether the worker gave a sign of life lately."""
    return worker.lost_at is None and worker.heartbeat_age_s < STALLED_AFTER_S
