"""Some sources fail: the aggregate takes what there is, and an alert tells what is missing."""

from __future__ import annotations

import anyio

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import failed, play, succeeded

QUEUE = "demo_partial"

# how many runs each of them takes; 3 are all that it gets
RUNS_NEEDED = {"reliable": 1, "medium": 2, "unreliable": 9, "backup": 3}
ROWS = 100


@app.task(queue=QUEUE, retry=2, pass_context=True)
async def extract(context: JobContext, source: str, runs_needed: int) -> int:
    await anyio.sleep(STEP_S / 3)
    if context.attempt < runs_needed:
        raise ConnectionError(f"{source} can't be reached")
    return ROWS


@app.task(queue=QUEUE, run_when="any_succeeded", pass_context=True)
async def aggregate(context: JobContext) -> int:
    """How many rows there are; a source that failed has no result."""
    rows = (await context.get_parent_results_async()).values()
    await anyio.sleep(STEP_S)
    return sum(each for each in rows if each is not None)


@app.task(queue=QUEUE, run_when="any_failed", pass_context=True)
async def alert(context: JobContext) -> list[int]:
    """Which jobs have failed."""
    statuses = await context.get_parent_statuses_async()
    return [job_id for job_id, status in statuses.items() if status == "failed"]


async def demo() -> None:
    async with app.workflow("demo: partial") as workflow:
        sources = {source: workflow.add(extract, source, runs_needed=runs) for source, runs in RUNS_NEEDED.items()}
        aggregated = workflow.add(aggregate.configure(depends_on=sources.values()))
        alerted = workflow.add(alert.configure(depends_on=sources.values()))

    await play(
        [
            succeeded("extract reliable", sources["reliable"], attempts=1),
            succeeded("extract medium", sources["medium"], attempts=2),
            failed("extract unreliable", sources["unreliable"], attempts=3),
            succeeded("extract backup", sources["backup"], attempts=3),
            succeeded("aggregate", aggregated, after=sources.values(), result=3 * ROWS),
            succeeded("alert", alerted, after=sources.values(), result=[sources["unreliable"].job_id]),
        ],
        QUEUE,
    )


if __name__ == "__main__":
    main("partial")
