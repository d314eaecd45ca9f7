"""The overview: what there is to do, how fast it is done, and what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.dashboard import charts, discretion
from procrastinate_deps.dashboard.pages.parameters import choice
from procrastinate_deps.dashboard.pages.workers import is_live
from procrastinate_deps.dashboard.state import state_of
from procrastinate_deps.statements import Count
from procrastinate_deps.times import utc_now

if TYPE_CHECKING:
    from starlette.requests import Request

    from procrastinate_deps.dashboard.state import State

LATEST_FAILURES = 8


async def read(request: Request) -> dict[str, Any]:
    state = state_of(request)
    window = choice(request, "window", str, charts.WINDOWS) or "hour"
    queues = await state.reads.execute_async(statements.dashboard_queues())
    workers = await state.reader.list_workers_async()
    oldest = [queue.oldest_ready_at for queue in queues if queue.oldest_ready_at is not None]
    return {
        "window": window,
        "counts": await counts_by_status(state),
        "charts": await read_charts(state, window),
        "oldest_ready_at": min(oldest, default=None),
        "queues": queues,
        "workers": workers,
        "workers_alive": sum(is_live(worker) for worker in workers),
        "slots": sum(worker.concurrency for worker in workers if is_live(worker)),
        "failures": [
            discretion.of_failure(state.hider, row)
            for row in await state.reads.execute_async(statements.dashboard_failures(LATEST_FAILURES))
        ],
    }


async def counts_by_status(state: State) -> dict[str, Count]:
    """Of each status how many jobs have it; and how the ones that are todo divide."""
    counts = await state.reads.execute_async(statements.dashboard_counts())
    todo = counts["ready"] + counts["scheduled"] + counts["locked"]
    return {
        "blocked": counts["blocked"],
        "todo": todo,
        **{name: counts[name] for name in ("doing", "succeeded", "failed", "cancelled", "aborted")},
        **{name: counts[name] for name in ("ready", "scheduled", "locked")},
    }


async def read_charts(state: State, window: str) -> charts.Charts:
    now = utc_now()
    length, step = charts.WINDOWS[window]
    since = now - length + step
    by_status = await state.reader.get_stats_async(since, step=step, by=("status",), histograms=False)
    merged = await state.reader.get_stats_async(since, step=step, by=())
    return charts.draw(charts.slots(by_status, merged, window, now), window)
