"""What the workflows' tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from tests.integration.worker_helpers import DEADLINE_S, working

if TYPE_CHECKING:
    from procrastinate_deps import App, Workflow, WorkflowInfo


def declare(app: App) -> dict[str, Any]:
    """Tasks that most graphs are made of, by their names."""

    @app.task(name="step")
    async def step(n: int = 0) -> int:
        return n

    @app.task(name="fail")
    async def fail() -> None:
        raise ValueError("on purpose")

    return {"step": step, "fail": fail}


async def worked(app: App, workflow: Workflow, **options: Any) -> WorkflowInfo:
    """Let a worker run until the workflow has ended, however it ends."""
    with anyio.fail_after(DEADLINE_S):
        async with working(app, **options):
            await workflow.wait_async(raise_on_failure=False)
    return workflow.info


async def names(workflow: Workflow) -> dict[str | int, str]:
    """Of each of its jobs the status, by its node or id."""
    return {job.node or job.id: str(job.status) for job in await workflow.jobs_async()}
