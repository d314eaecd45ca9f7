"""Four lanes of extract, transform and validate into one load; one lane fails, and the notification tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from procrastinate_deps import JobContext, RetryStrategy
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import cancelled, check_overlap, failed, play, succeeded
from procrastinate_deps.jobs import CancelKind

if TYPE_CHECKING:
    from procrastinate_deps.demos.progress import Step

# an edge may lead from one queue to another
QUEUE = "demo_etl"
PIPELINE_QUEUE = "demo_etl_pipeline"

SOURCES = ("users", "orders", "prices", "stock")
UNSTEADY = "orders"  # can't be reached at first
DAMAGED = "prices"


@app.task(
    queue=PIPELINE_QUEUE, retry=RetryStrategy(max_attempts=3, retry_exceptions=[ConnectionError]), pass_context=True
)
async def extract(context: JobContext, source: str) -> str:
    await anyio.sleep(STEP_S / 3)
    if source == UNSTEADY and context.attempt == 1:
        raise ConnectionError(f"{source} can't be reached")
    return f"rows of {source}"


@app.task(queue=PIPELINE_QUEUE, run_when="all_succeeded")
async def transform(source: str) -> None:
    await anyio.sleep(STEP_S)
    if source == DAMAGED:
        raise ValueError(f"{source}: row 17 is damaged")


@app.task(queue=PIPELINE_QUEUE, run_when="all_succeeded")
async def validate(source: str) -> None:
    await anyio.sleep(STEP_S / 3)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def load() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, pass_context=True)
async def notify(context: JobContext) -> str:
    """Runs whatever happened."""
    (end,) = (await context.get_parent_statuses_async()).values()
    return f"load: {end}"


async def demo() -> None:
    async with app.workflow("demo: etl", metadata={"sources": list(SOURCES)}) as workflow:
        extracted = [workflow.add(extract, source) for source in SOURCES]
        transformed = [workflow.add(transform, source) for source in SOURCES]
        validated = [workflow.add(validate, source) for source in SOURCES]
        for lane in zip(extracted, transformed, validated, strict=True):
            lane[0] >> lane[1] >> lane[2]
        loaded = workflow.add(load.configure(depends_on=validated))
        notified = workflow.add(notify.configure(depends_on=loaded))

    steps: list[Step] = []
    for source, first, second, third in zip(SOURCES, extracted, transformed, validated, strict=True):
        attempts = 2 if source == UNSTEADY else 1
        steps.append(succeeded(f"extract {source}", first, result=f"rows of {source}", attempts=attempts))
        if source == DAMAGED:
            steps.append(failed(f"transform {source}", second, after=[first], attempts=1))
            steps.append(cancelled(f"validate {source}", third, CancelKind.UPSTREAM, after=[second]))
        else:
            steps.append(succeeded(f"transform {source}", second, after=[first]))
            steps.append(succeeded(f"validate {source}", third, after=[second]))
    steps.append(cancelled("load", loaded, CancelKind.UPSTREAM, after=validated))
    steps.append(succeeded("notify", notified, after=[loaded], result="load: cancelled"))

    jobs = await play(steps, QUEUE, PIPELINE_QUEUE)
    check_overlap("transformations", transformed, jobs)


if __name__ == "__main__":
    main("etl")
