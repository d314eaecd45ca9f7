"""A job is deleted that others wait for: it counts as cancelled, and each of them is decided by its own rule."""

from __future__ import annotations

import anyio
import click

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import cancelled, check, play, succeeded
from procrastinate_deps.jobs import CancelKind

QUEUE = "demo_deleted_parent"


@app.task(queue=QUEUE)
async def extract(source: str) -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def publish() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="any_succeeded")
async def aggregate() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, pass_context=True)
async def notify(context: JobContext) -> list[str]:
    """A deleted parent is still reported."""
    return list((await context.get_parent_statuses_async()).values())


async def demo() -> None:
    manager = app.job_manager
    # so that no worker starts it before it is deleted
    await manager.pause_queue_async(QUEUE)
    async with app.workflow("demo: deleted_parent") as workflow:
        sources = [workflow.add(extract, source) for source in ("users", "orders")]
        published = workflow.add(publish.configure(depends_on=sources))
        aggregated = workflow.add(aggregate.configure(depends_on=sources))
        notified = workflow.add(notify.configure(depends_on=sources))

    users, orders = sources
    deleted = await manager.cancel_job_by_id_async(users.job_id, delete_job=True)
    check(deleted, f"job {users.job_id} could not be deleted")
    click.echo(f"Job {users.job_id} (extract users) is deleted; three jobs wait for it.")
    await manager.resume_queue_async(QUEUE)

    await play(
        [
            succeeded("extract orders", orders),
            cancelled("publish", published, CancelKind.UPSTREAM, after=sources),
            succeeded("aggregate", aggregated, after=sources),
            succeeded("notify", notified, after=sources, result=["cancelled", "succeeded"]),
        ],
        QUEUE,
    )


if __name__ == "__main__":
    main("deleted_parent")
