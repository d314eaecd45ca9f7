"""One job lets four others run side by side, and a report joins them: a diamond."""

from __future__ import annotations

import anyio

from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import check, check_overlap, play, succeeded

QUEUE = "demo_fan_out"

OPERATIONS = ("analysis", "transformation", "validation", "export")


@app.task(queue=QUEUE)
async def prepare(dataset: str) -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def process(operation: str) -> str:
    await anyio.sleep(STEP_S)
    return f"{operation} is done"


@app.task(queue=QUEUE, run_when="all_succeeded")
async def report() -> None:
    await anyio.sleep(STEP_S)


async def demo() -> None:
    async with app.workflow("demo: fan_out") as workflow:
        prepared = workflow.add(prepare, "master")
        processed = [workflow.add(process, operation) for operation in OPERATIONS]
        reported = workflow.add(report)
        prepared >> processed >> reported

    jobs = await play(
        [
            succeeded("prepare", prepared),
            *(
                succeeded(operation, node, after=[prepared], result=f"{operation} is done")
                for operation, node in zip(OPERATIONS, processed, strict=True)
            ),
            succeeded("report", reported, after=processed),
        ],
        QUEUE,
    )
    check_overlap("operations", processed, jobs)
    check(jobs[reported.job_id].claim == 1, "the report was started more than once")


if __name__ == "__main__":
    main("fan_out")
