"""Jobs that would wait for each other are refused: while a graph is built, and when an edge is added later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import click

from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import check, play, succeeded
from procrastinate_deps.exceptions import CircularDependency

if TYPE_CHECKING:
    from procrastinate_deps.dependencies import HasJobId

QUEUE = "demo_cycle"


@app.task(queue=QUEUE, run_when="all_succeeded")
async def step(name: str) -> None:
    await anyio.sleep(STEP_S)


async def demo() -> None:
    # so that no worker starts the first one before an edge is added to it
    await app.job_manager.pause_queue_async(QUEUE)
    await build_a_cycle()
    async with app.workflow("demo: cycle") as workflow:
        a, b, c = (workflow.add(step, name) for name in "abc")
        a >> b >> c
    await add_an_edge(a, c, cycle={a.job_id, b.job_id, c.job_id})
    await add_an_edge(b, b, cycle={b.job_id})
    await app.job_manager.resume_queue_async(QUEUE)

    await play([succeeded("a", a), succeeded("b", b, after=[a]), succeeded("c", c, after=[b])], QUEUE)


async def build_a_cycle() -> None:
    """Of this workflow nothing is sent."""
    try:
        async with app.workflow("demo: cycle, never sent") as workflow:
            a, b, c = (workflow.add(step.configure(node=name), name) for name in "abc")
            a >> b >> c >> a
    except CircularDependency as error:
        click.echo(f"Refused: {error}")
    else:
        check(False, "a workflow with a cycle was sent")


async def add_an_edge(child: HasJobId, parent: HasJobId, *, cycle: set[int]) -> None:
    try:
        await app.job_manager.add_dependencies_async(child, parent)
    except CircularDependency as error:
        click.echo(f"Refused: {error}")
        check(set(error.cycle) == cycle, f"the cycle is {error.cycle}, not {cycle}")
    else:
        check(False, f"job {child.job_id} was made to wait for {parent.job_id}")


if __name__ == "__main__":
    main("cycle")
