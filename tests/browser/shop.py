"""The app of these tests; each worker and dashboard imports it in a process of its own."""

from __future__ import annotations

import asyncio
import os

from procrastinate_deps import App, JobContext, PsycopgConnector, RetryStrategy

EVIL = """<img src=x onerror="alert('in')"><script>alert("in")</script>'";--></script>{{7*7}}"""
"""As the name of everything: a dialog, an element made of it, or a refusal by the policy fails the test."""

app = App(PsycopgConnector(conninfo=os.environ["PROCRASTINATE_DEPS_DSN"]))


@app.task(name="orders.pay", queue="money", run_when="all_succeeded")
async def pay(order: int) -> str:
    if order == 13:
        raise ValueError("order 13 was declined")
    return f"paid {order}"


@app.task(name="orders.gate", queue="gate", pass_context=True)
async def gate(context: JobContext) -> None:
    """Runs until there is a job "orders.open"."""
    await context.set_progress_async(1, 4, message="waiting at the gate")
    while not await context.app.job_manager.list_jobs_async(task="orders.open"):  # noqa: ASYNC110 - a row
        await asyncio.sleep(0.02)


@app.task(name=EVIL, queue=EVIL, retry=RetryStrategy(max_attempts=1), pass_context=True)
async def evil(context: JobContext, /, **arguments: object) -> str:
    if arguments.get("goes_on"):
        await context.set_progress_async(1, 4, message=EVIL)
        await asyncio.sleep(3600)
    if arguments.get("fails"):
        raise ValueError(EVIL)
    return EVIL


@app.periodic(cron="0 3 * * *")
@app.task(name="reports.nightly")
async def nightly(timestamp: int) -> None: ...
