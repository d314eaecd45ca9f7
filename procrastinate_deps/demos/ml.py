"""Three models are trained and evaluated; deploy reads the scores of its parents and takes the best one."""

from __future__ import annotations

from typing import Any

import anyio

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import check_overlap, play, succeeded

QUEUE = "demo_ml"

# how well each of them turns out to be
SCORES = {"linear": 0.81, "forest": 0.93, "network": 0.88}
BEST = {"model": "forest", "score": 0.93}


@app.task(queue=QUEUE)
async def prepare() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def engineer_features() -> None:
    await anyio.sleep(STEP_S)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def train(model: str) -> str:
    await anyio.sleep(STEP_S)
    return model


@app.task(queue=QUEUE, run_when="all_succeeded", pass_context=True)
async def evaluate(context: JobContext) -> dict[str, Any]:
    (model,) = (await context.get_parent_results_async()).values()
    await anyio.sleep(STEP_S / 3)
    return {"model": model, "score": SCORES[model]}


@app.task(queue=QUEUE, run_when="all_succeeded", pass_context=True)
async def deploy(context: JobContext) -> dict[str, Any]:
    scores = (await context.get_parent_results_async()).values()
    best: dict[str, Any] = max(scores, key=lambda each: each["score"])
    await anyio.sleep(STEP_S)
    return best


@app.task(queue=QUEUE, run_when="all_succeeded", pass_context=True)
async def notify(context: JobContext) -> str:
    (deployed,) = (await context.get_parent_results_async()).values()
    return f"{deployed['model']} is live"


async def demo() -> None:
    async with app.workflow("demo: ml") as workflow:
        prepared = workflow.add(prepare)
        features = workflow.add(engineer_features)
        trained = [workflow.add(train, model) for model in SCORES]
        evaluated = [workflow.add(evaluate.configure(depends_on=node)) for node in trained]
        deployed = workflow.add(deploy)
        notified = workflow.add(notify)
        prepared >> features >> trained
        evaluated >> deployed >> notified

    jobs = await play(
        [
            succeeded("prepare", prepared),
            succeeded("engineer features", features, after=[prepared]),
            *(
                succeeded(f"train {model}", node, after=[features], result=model)
                for model, node in zip(SCORES, trained, strict=True)
            ),
            *(
                succeeded(f"evaluate {model}", node, after=[before], result={"model": model, "score": SCORES[model]})
                for model, node, before in zip(SCORES, evaluated, trained, strict=True)
            ),
            succeeded("deploy", deployed, after=evaluated, result=BEST),
            succeeded("notify", notified, after=[deployed], result="forest is live"),
        ],
        QUEUE,
    )
    check_overlap("trainings", trained, jobs)


if __name__ == "__main__":
    main("ml")
