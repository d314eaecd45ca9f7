"""Two branches, of which one runs: for valid input one job, for invalid input another; then a notification."""

from __future__ import annotations

import anyio

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import cancelled, failed, play, succeeded
from procrastinate_deps.jobs import CancelKind

QUEUE = "demo_conditional"


@app.task(queue=QUEUE)
async def validate(rows: int) -> None:
    await anyio.sleep(STEP_S)
    if rows < 100:
        raise ValueError(f"{rows} rows are too few")


@app.task(queue=QUEUE, run_when="all_succeeded")
async def process_valid() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="any_failed")
async def handle_invalid() -> None:
    await anyio.sleep(STEP_S)


# It waits for both branches. The one that is not taken is cancelled, which is an end too: nothing waits for ever.
@app.task(queue=QUEUE, pass_context=True)
async def notify(context: JobContext) -> list[str]:
    return list((await context.get_parent_statuses_async()).values())


async def demo() -> None:
    async with app.workflow("demo: conditional") as workflow:
        graphs = []
        for rows in (1000, 7):
            validated = workflow.add(validate, rows)
            valid = workflow.add(process_valid)
            invalid = workflow.add(handle_invalid)
            notified = workflow.add(notify)
            validated >> [valid, invalid] >> notified
            graphs.append((validated, valid, invalid, notified))

    good, bad = graphs
    await play(
        [
            succeeded("validate good", good[0]),
            succeeded("process valid", good[1], after=[good[0]]),
            cancelled("handle invalid", good[2], CancelKind.NOT_NEEDED, after=[good[0]]),
            succeeded("notify", good[3], after=good[1:3], result=["succeeded", "cancelled"]),
            failed("validate bad", bad[0]),
            cancelled("process invalid", bad[1], CancelKind.UPSTREAM, after=[bad[0]]),
            succeeded("handle the invalid", bad[2], after=[bad[0]]),
            succeeded("notify of it", bad[3], after=bad[1:3], result=["cancelled", "succeeded"]),
        ],
        QUEUE,
    )


if __name__ == "__main__":
    main("conditional")
