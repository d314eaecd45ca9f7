"""The list of workflows, and one of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.dashboard import discretion
from procrastinate_deps.dashboard.pages.parameters import choice, number, path_id, text, trail
from procrastinate_deps.dashboard.state import state_of
from procrastinate_deps.jobs import Status
from procrastinate_deps.workflow_info import WorkflowStatus

if TYPE_CHECKING:
    from starlette.requests import Request

PAGE = 30
SHOWN_NESTED = 50
SHOWN_RUNNING = 20


async def read(request: Request) -> dict[str, Any]:
    state = state_of(request)
    name, before = text(request, "name"), number(request, "before")
    status = choice(request, "status", WorkflowStatus, [each.value for each in WorkflowStatus])
    nested = text(request, "nested") is not None
    workflows = await state.reads.execute_async(
        statements.list_workflows(name=name, status=status, roots=not nested, limit=PAGE + 1, after=before)
    )
    return {
        "workflows": [discretion.of_workflow(state.hider, each) for each in workflows[:PAGE]],
        "older": workflows[PAGE - 1].id if len(workflows) > PAGE else None,
        "before": before,
        "trail": trail(request),
        "filter": {"name": name, "status": status, "nested": nested},
        "workflow_statuses": [each.value for each in WorkflowStatus],
    }


async def read_one(request: Request) -> dict[str, Any]:
    state = state_of(request)
    workflow_id = path_id(request, "workflow_id")
    run = state.reads.execute_async
    show = functools.partial(discretion.of_workflow, state.hider)
    workflow = show(await run(statements.get_workflow(workflow_id)))
    nested = await run(statements.list_workflows(parent_id=workflow_id, limit=SHOWN_NESTED + 1))
    doing = statements.JobFilter(status=Status.DOING, workflow_id=workflow_id)
    running = await run(statements.dashboard_of_workflow(doing, SHOWN_RUNNING))
    return {
        "workflow": workflow,
        "ancestors": [show(await run(statements.get_workflow(each))) for each in workflow.path[:-1]],
        "nested": [show(each) for each in nested[:SHOWN_NESTED]],
        "more_nested": len(nested) > SHOWN_NESTED,
        "running": [discretion.of_row(state.hider, row) for row in running],
    }
