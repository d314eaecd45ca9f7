"""Jobs that split themselves, to any depth: each adds two halves, and the total waits for whatever they turn into."""

from __future__ import annotations

import anyio
import click

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import check, check_order, play, succeeded
from procrastinate_deps.jobs import Status

QUEUE = "demo_recursion"

NUMBERS = 1000
SMALL_ENOUGH = 100
# halved four times
LEAVES = 16
SPLITS = 15


@app.task(queue=QUEUE, pass_context=True)
async def add_up(context: JobContext, first: int, last: int) -> int | None:
    await anyio.sleep(STEP_S / 6)
    if last - first < SMALL_ENOUGH:
        return sum(range(first, last + 1))
    middle = (first + last) // 2
    async with context.workflow.grow() as growing:
        halves = [growing.add(add_up, first, middle), growing.add(add_up, middle + 1, last)]
        halves >> growing.existing("total")
    return None


@app.task(queue=QUEUE, run_when="all_succeeded", pass_context=True)
async def total(context: JobContext) -> int:
    sums = (await context.get_parent_results_async()).values()
    return sum(each for each in sums if each is not None)


async def demo() -> None:
    async with app.workflow("demo: recursion") as workflow:
        root = workflow.add(add_up, 1, NUMBERS)
        last = workflow.add(total.configure(depends_on=root, node="total"))

    jobs = await play(
        [
            succeeded(f"add up 1 to {NUMBERS}", root, result=None),
            succeeded("total", last, after=[root], result=NUMBERS * (NUMBERS + 1) // 2),
        ],
        QUEUE,
    )
    parts = [job for job in await workflow.jobs_async() if job.id != last.job_id]
    leaves = [job for job in parts if job.result is not None]
    check({job.status for job in parts} == {Status.SUCCEEDED}, f"not all of {len(parts)} parts succeeded")
    check((len(leaves), len(parts)) == (LEAVES, LEAVES + SPLITS), f"{len(leaves)} leaves, {len(parts)} parts")
    check_order([succeeded("total", last, after=parts)], jobs | {job.id: job for job in parts})
    click.echo(f"{SPLITS} jobs have split themselves; {LEAVES} added up their numbers, and then the total ran.")


if __name__ == "__main__":
    main("recursion")
