"""The graph around a job, and that of a workflow, as JSON."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from procrastinate_deps import statements
from procrastinate_deps.dashboard.graph_data import graph_data
from procrastinate_deps.dashboard.pages.parameters import path_id, text
from procrastinate_deps.dashboard.state import state_of
from procrastinate_deps.exceptions import JobNotFound
from procrastinate_deps.jobs import Status
from procrastinate_deps.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from procrastinate_deps.dashboard.state import State
    from procrastinate_deps.explanations import Doomed
    from procrastinate_deps.statements import GraphRow

STEPS = 3
FAN = 25
NEIGHBOURS = 120
MAX_JOBS = 20_000
MAX_EDGES = 100_000
MANY_JOBS = 1_000


async def read_neighbourhood(request: Request) -> dict[str, Any]:
    state = state_of(request)
    job_id = path_id(request, "job_id")
    run = state.reads.execute_async
    ids = await run(statements.dashboard_neighbourhood(job_id, STEPS, FAN, NEIGHBOURS))
    rows = await run(statements.dashboard_graph_jobs(ids))
    if not any(row.id == job_id for row in rows):
        raise JobNotFound(job_id=job_id)
    edges = await run(statements.dashboard_edges(ids))
    return graph_data(
        rows, edges, await _doomed(state, rows), now=utc_now(), focus=job_id, truncated=len(ids) >= NEIGHBOURS
    )


async def read_workflow(request: Request) -> dict[str, Any]:
    state = state_of(request)
    workflow_id, find = path_id(request, "workflow_id"), text(request, "find")
    run = state.reads.execute_async
    rows = await run(statements.dashboard_workflow_jobs(workflow_id, MAX_JOBS + 1))
    if not rows:
        await run(statements.get_workflow(workflow_id))
    edges = await run(statements.list_workflow_edges(workflow_id, limit=MAX_EDGES))
    draw = functools.partial(
        graph_data,
        rows[:MAX_JOBS],
        [(edge.parent_id, edge.child_id) for edge in edges],
        await _doomed(state, rows),
        now=utc_now(),
        opened=request.query_params.getlist("open"),
        find=find,
        truncated=len(rows) > MAX_JOBS or len(edges) >= MAX_EDGES,
    )
    # 10,000 jobs take a third of a second: other pages shall not wait for it.
    return await anyio.to_thread.run_sync(draw) if len(rows) > MANY_JOBS else draw()


async def _doomed(state: State, rows: Sequence[GraphRow]) -> list[Doomed]:
    """Of the blocked ones, where something happened that may decide about them."""
    blocked = [row.id for row in rows if row.status is Status.BLOCKED]
    if not blocked or all(row.status in (Status.BLOCKED, Status.TODO, Status.DOING) for row in rows):
        return []
    return await state.reads.execute_async(statements.doomed_jobs(blocked))
