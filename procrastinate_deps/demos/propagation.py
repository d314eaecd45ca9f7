"""A failure goes on along the chain: what needs the failed job is cancelled, at every distance; the cleanup runs."""

from __future__ import annotations

import anyio

from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import cancelled, failed, play, succeeded
from procrastinate_deps.jobs import CancelKind

QUEUE = "demo_propagation"


@app.task(queue=QUEUE, retry=2)
async def extract(source: str) -> None:
    """Fails in its first run and in both retries."""
    await anyio.sleep(STEP_S / 3)
    raise ConnectionError(f"{source} can't be reached")


@app.task(queue=QUEUE, run_when="all_succeeded")
async def process() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def validate() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE)
async def clean_up() -> None:
    await anyio.sleep(STEP_S)


async def demo() -> None:
    async with app.workflow("demo: propagation") as workflow:
        extracted = workflow.add(extract, "the archive")
        processed = workflow.add(process)
        validated = workflow.add(validate)
        cleaned = workflow.add(clean_up)
        extracted >> processed >> validated
        extracted >> cleaned

    await play(
        [
            failed("extract", extracted, attempts=3),
            cancelled("process", processed, CancelKind.UPSTREAM, after=[extracted]),
            cancelled("validate", validated, CancelKind.UPSTREAM, after=[processed]),
            succeeded("clean up", cleaned, after=[extracted]),
        ],
        QUEUE,
    )


if __name__ == "__main__":
    main("propagation")
