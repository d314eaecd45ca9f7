"""A cleanup that runs whatever happened: once after a success, once after a failure."""

from __future__ import annotations

import anyio

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import failed, play, succeeded

QUEUE = "demo_cleanup"


@app.task(queue=QUEUE)
async def process(dataset: str, fails: bool) -> str:
    await anyio.sleep(STEP_S)
    if fails:
        raise ValueError(f"{dataset} is damaged")
    return f"{dataset} is processed"


# run_when="all_finished" is the default
@app.task(queue=QUEUE, pass_context=True)
async def clean_up(context: JobContext) -> str:
    (end,) = (await context.get_parent_statuses_async()).values()
    await anyio.sleep(STEP_S)
    return f"cleaned up after it had {end}"


async def demo() -> None:
    async with app.workflow("demo: cleanup") as workflow:
        good = workflow.add(process, "orders", fails=False)
        after_good = workflow.add(clean_up.configure(depends_on=good))
        bad = workflow.add(process, "prices", fails=True)
        after_bad = workflow.add(clean_up.configure(depends_on=bad))

    await play(
        [
            succeeded("process orders", good, result="orders is processed"),
            succeeded("clean up orders", after_good, after=[good], result="cleaned up after it had succeeded"),
            failed("process prices", bad),
            succeeded("clean up prices", after_bad, after=[bad], result="cleaned up after it had failed"),
        ],
        QUEUE,
    )


if __name__ == "__main__":
    main("cleanup")
