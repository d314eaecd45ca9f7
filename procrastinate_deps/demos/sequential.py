"""Three steps, each after the one before."""

from __future__ import annotations

import anyio

from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import play, succeeded

QUEUE = "demo_sequential"


@app.task(queue=QUEUE)
async def prepare(dataset: str) -> str:
    await anyio.sleep(STEP_S)
    return f"{dataset} is ready"


@app.task(queue=QUEUE, run_when="all_succeeded")
async def process(dataset: str, operation: str) -> str:
    await anyio.sleep(STEP_S)
    return f"{operation} of {dataset}"


@app.task(queue=QUEUE, run_when="all_succeeded")
async def validate(expected_rows: int) -> bool:
    await anyio.sleep(STEP_S)
    return expected_rows > 0


async def demo() -> None:
    async with app.workflow("demo: sequential") as workflow:
        prepared = workflow.add(prepare, "user_activity")
        processed = workflow.add(process, "user_activity", operation="sum")
        validated = workflow.add(validate, expected_rows=1000)
        prepared >> processed >> validated

    await play(
        [
            succeeded("prepare", prepared, result="user_activity is ready"),
            succeeded("process", processed, after=[prepared], result="sum of user_activity"),
            succeeded("validate", validated, after=[processed], result=True),
        ],
        QUEUE,
    )


if __name__ == "__main__":
    main("sequential")
