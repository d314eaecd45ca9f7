"""A fallback that runs only when the first way has failed, and a last step that wants one of the two to succeed."""

from __future__ import annotations

import anyio

from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import cancelled, failed, play, succeeded
from procrastinate_deps.jobs import CancelKind

QUEUE = "demo_recovery"


@app.task(queue=QUEUE)
async def extract() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="all_succeeded", retry=1)
async def process(dataset: str, fails: bool) -> None:
    await anyio.sleep(STEP_S / 3)
    if fails:
        raise MemoryError(f"{dataset} is too large for this")


@app.task(queue=QUEUE, run_when="any_failed")
async def process_simply(dataset: str) -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="any_succeeded")
async def validate(dataset: str) -> None:
    await anyio.sleep(STEP_S)


async def demo() -> None:
    async with app.workflow("demo: recovery") as workflow:
        extracted = workflow.add(extract)
        ways = {}
        for dataset, fails in (("orders", True), ("users", False)):
            first = workflow.add(process.configure(depends_on=extracted), dataset, fails=fails)
            fallback = workflow.add(process_simply.configure(depends_on=first), dataset)
            last = workflow.add(validate.configure(depends_on=[first, fallback]), dataset)
            ways[dataset] = first, fallback, last

    first, fallback, last = ways["orders"]
    other_first, other_fallback, other_last = ways["users"]
    await play(
        [
            succeeded("extract", extracted),
            failed("process orders", first, after=[extracted], attempts=2),
            succeeded("process orders simply", fallback, after=[first]),
            succeeded("validate orders", last, after=[first, fallback]),
            succeeded("process users", other_first, after=[extracted], attempts=1),
            cancelled("process users simply", other_fallback, CancelKind.NOT_NEEDED, after=[other_first]),
            succeeded("validate users", other_last, after=[other_first, other_fallback]),
        ],
        QUEUE,
    )


if __name__ == "__main__":
    main("recovery")
