"""A list known only at run time: a running job adds a job for each entry, and the report already waits for them."""

from __future__ import annotations

import anyio

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import check_overlap, play, print_outcome, succeeded

QUEUE = "demo_map_list"

FILES = 5


@app.task(queue=QUEUE, pass_context=True)
async def list_files(context: JobContext, folder: str) -> None:
    await anyio.sleep(STEP_S)
    files = [f"{folder}/{number}.csv" for number in range(1, FILES + 1)]
    async with context.workflow.grow() as growing:
        [growing.add(count_rows, file) for file in files] >> growing.existing("report")


@app.task(queue=QUEUE)
async def count_rows(file: str) -> int:
    await anyio.sleep(STEP_S)
    return 100


@app.task(queue=QUEUE, run_when="all_succeeded", pass_context=True)
async def report(context: JobContext) -> int:
    counts = (await context.get_parent_results_async()).values()
    return sum(count for count in counts if count is not None)


async def demo() -> None:
    async with app.workflow("demo: map_list") as workflow:
        listed = workflow.add(list_files, "inbox")
        reported = workflow.add(report.configure(depends_on=listed, node="report"))

    jobs = await play(
        [succeeded("list files", listed), succeeded("report", reported, after=[listed], result=100 * FILES)], QUEUE
    )
    counted = [job for job in await workflow.jobs_async() if job.id not in jobs]
    steps = [succeeded(f"count rows of {job.task_kwargs['file']}", job, after=[listed]) for job in counted]
    steps.append(succeeded("report", reported, after=counted))
    print_outcome(steps, jobs | {job.id: job for job in counted})
    check_overlap("files", counted, {job.id: job for job in counted})


if __name__ == "__main__":
    main("map_list")
