"""Five calls, a fallback for each that fails, and an aggregate over all ten."""

from __future__ import annotations

import anyio

from procrastinate_deps import JobContext
from procrastinate_deps.demos.demo_app import STEP_S, app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.stage import cancelled, failed, play, succeeded
from procrastinate_deps.jobs import CancelKind

QUEUE = "demo_circuit_breaker"

SERVICES = {"payments": True, "mails": False, "search": True, "maps": True, "weather": False}  # which are down
OPEN_FROM = 3
"""With so many services down the circuit is to be opened: nobody shall call them for a while."""


@app.task(queue=QUEUE, retry=1)
async def call(service: str, down: bool) -> str:
    await anyio.sleep(STEP_S / 3)
    if down:
        raise TimeoutError(f"{service} doesn't answer")
    return "live"


@app.task(queue=QUEUE, run_when="any_failed")
async def fall_back(service: str) -> str:
    await anyio.sleep(STEP_S / 3)
    return "cached"


@app.task(queue=QUEUE, pass_context=True)
async def aggregate(context: JobContext) -> dict[str, object]:
    answers = list((await context.get_parent_results_async()).values())
    cached = answers.count("cached")
    return {"live": answers.count("live"), "cached": cached, "circuit": "open" if cached >= OPEN_FROM else "closed"}


async def demo() -> None:
    async with app.workflow("demo: circuit_breaker") as workflow:
        calls = [workflow.add(call, service, down=down) for service, down in SERVICES.items()]
        fallbacks = [
            workflow.add(fall_back.configure(depends_on=node), service)
            for service, node in zip(SERVICES, calls, strict=True)
        ]
        aggregated = workflow.add(aggregate.configure(depends_on=[*calls, *fallbacks]))

    steps = []
    for (service, down), first, fallback in zip(SERVICES.items(), calls, fallbacks, strict=True):
        if down:
            steps.append(failed(f"call {service}", first, attempts=2))
            steps.append(succeeded(f"fall back for {service}", fallback, after=[first], result="cached"))
        else:
            steps.append(succeeded(f"call {service}", first, result="live", attempts=1))
            steps.append(cancelled(f"fall back for {service}", fallback, CancelKind.NOT_NEEDED, after=[first]))
    expected = {"live": 2, "cached": 3, "circuit": "open"}
    steps.append(succeeded("aggregate", aggregated, after=[*calls, *fallbacks], result=expected))
    await play(steps, QUEUE)


if __name__ == "__main__":
    main("circuit_breaker")
