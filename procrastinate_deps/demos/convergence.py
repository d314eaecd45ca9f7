"""Three jobs side by side, and a report that waits for all of them."""

from __future__ import annotations

import anyio

from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import check_overlap, play, succeeded

QUEUE = "demo_convergence"

DATASETS = {"sales": 5000, "users": 8000, "products": 3000}


@app.task(queue=QUEUE)
async def prepare(dataset: str, rows: int) -> int:
    await anyio.sleep(STEP_S)
    return rows


@app.task(queue=QUEUE, run_when="all_succeeded")
async def report(kind: str) -> str:
    await anyio.sleep(STEP_S)
    return f"the {kind} report"


async def demo() -> None:
    async with app.workflow("demo: convergence") as workflow:
        prepared = [workflow.add(prepare, dataset, rows) for dataset, rows in DATASETS.items()]
        reported = workflow.add(report.configure(depends_on=prepared), kind="monthly")

    jobs = await play(
        [
            *(
                succeeded(f"prepare {dataset}", node, result=rows)
                for node, (dataset, rows) in zip(prepared, DATASETS.items(), strict=True)
            ),
            succeeded("report", reported, after=prepared, result="the monthly report"),
        ],
        QUEUE,
    )
    check_overlap("preparations", prepared, jobs)


if __name__ == "__main__":
    main("convergence")
