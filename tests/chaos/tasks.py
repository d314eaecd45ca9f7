"""The app that the workers of the chaos tests run: `python -m procrastinate_deps --app tests.chaos.tasks.app worker`.

Each task records its run in the ledger, reads how its parents ended through the app's own connector, and works.
"""

from __future__ import annotations

import json
import os
import random
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from procrastinate_deps import App, AsyncpgConnector, JobContext, PsycopgConnector, RetryStrategy
from procrastinate_deps.exceptions import AlreadyEnqueued, ConnectorException, JobAborted, JobAlreadyStarted
from procrastinate_deps.jobs import JobSpec
from tests.chaos.ledger import AsyncLedger, SyncLedger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

DSN = "CHAOS_DSN"
LEDGER = "CHAOS_LEDGER"
DRIVER = "CHAOS_DRIVER"
MAX_SIZE = "CHAOS_MAX_SIZE"
WORKER = "CHAOS_WORKER"

# What a grower defers.
PARTS = 3
PINGS = 3
# Before each retry of a patient task.
PATIENCE_S = 0.3
# How much later a later task's job is to start.
LATER_S = 0.4
# The note of a run whose claim was lost: the job was run elsewhere meanwhile, and its child with it.
TOO_LATE = "too late"
# While the database doesn't answer.
INSIST_S = 0.05


def _app() -> App:
    dsn = os.environ.get(DSN, "")
    sizes: dict[str, Any] = {"max_size": int(os.environ.get(MAX_SIZE, "4"))}
    connector = (
        AsyncpgConnector(dsn, **sizes)
        if os.environ.get(DRIVER) == "asyncpg"
        else PsycopgConnector(conninfo=dsn, **sizes)
    )
    return App(connector, worker_defaults=json.loads(os.environ.get(WORKER, "{}")))


app = _app()
ledger = AsyncLedger(os.environ.get(LEDGER, ""))
sync_ledger = SyncLedger(os.environ.get(LEDGER, ""))


def _sleep(seconds: float) -> None:
    """In a thread. Not time.sleep, which libfaketime makes fail."""
    threading.Event().wait(seconds)


class MeantToFail(Exception):  # noqa: N818 - it is no error
    """The plan wants this."""


def _end(context: JobContext, *, fails: bool) -> dict[str, int]:
    if fails:
        raise MeantToFail(f"claim {context.job.claim}")
    return {"claim": context.job.claim}


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Ask the database until it answers."""
    while True:
        try:
            return await call()
        except ConnectorException:
            await anyio.sleep(INSIST_S)


def insist_sync(context: JobContext, call: Callable[[], T]) -> T:
    """The same in a thread, which ends when its worker is lost."""
    while True:
        try:
            return call()
        except ConnectorException:
            if context.should_abort():
                raise JobAborted from None
            _sleep(INSIST_S)


async def _run(context: JobContext, work_ms: int, *, fails: bool) -> dict[str, int]:
    run_id = await ledger.begin(context)
    parents = await insist(context.get_parent_statuses_async)
    await anyio.sleep(work_ms / 1000)
    await ledger.end(run_id, "failed" if fails else "succeeded", parents)
    return _end(context, fails=fails)


def _run_sync(context: JobContext, work_ms: int, *, fails: bool) -> dict[str, int]:
    run_id = sync_ledger.begin(context)
    parents = insist_sync(context, context.get_parent_statuses)
    _sleep(work_ms / 1000)
    sync_ledger.end(run_id, "failed" if fails else "succeeded", parents)
    return _end(context, fails=fails)


async def steady_async(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    return await _run(context, work_ms, fails=False)


def steady_sync(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    return _run_sync(context, work_ms, fails=False)


# By `attempts`, so that a run that was lost may stand for one that was to fail: more runs than these are never needed.
async def flaky_async(context: JobContext, node: int, work_ms: int, failures: int) -> dict[str, int]:
    return await _run(context, work_ms, fails=context.job.attempts < failures)


def flaky_sync(context: JobContext, node: int, work_ms: int, failures: int) -> dict[str, int]:
    return _run_sync(context, work_ms, fails=context.job.attempts < failures)


async def doomed_async(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    return await _run(context, work_ms, fails=True)


def doomed_sync(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    return _run_sync(context, work_ms, fails=True)


# Lost runs count as attempts: the limits are far away where the plan says that the job succeeds.
OFTEN = RetryStrategy(max_attempts=10_000)
OFTEN_PATIENTLY = RetryStrategy(max_attempts=10_000, wait=PATIENCE_S)
DOOMED_RETRIES = 1

for _steady in (steady_async, steady_sync):
    app.task(name=_steady.__name__, pass_context=True)(_steady)
    app.task(name=_steady.__name__.replace("steady", "join"), pass_context=True)(_steady)
for _flaky in (flaky_async, flaky_sync):
    app.task(name=_flaky.__name__, pass_context=True, retry=OFTEN)(_flaky)
    app.task(name=_flaky.__name__.replace("flaky", "patient"), pass_context=True, retry=OFTEN_PATIENTLY)(_flaky)
for _doomed in (doomed_async, doomed_sync):
    app.task(name=_doomed.__name__, pass_context=True, retry=DOOMED_RETRIES)(_doomed)


@app.task(name="part", pass_context=True)
async def part(context: JobContext, grower: int, claim: int, work_ms: int) -> dict[str, int]:
    return await _run(context, work_ms, fails=False)


@app.task(name="ping", pass_context=True)
async def ping(context: JobContext) -> dict[str, int]:
    return await _run(context, 1, fails=False)


def _parts(context: JobContext) -> list[JobSpec]:
    """The first waits for nothing, the others for it and for the grower, which still runs."""
    arguments = {"grower": context.job.id, "claim": context.job.claim, "work_ms": random.randint(0, 10)}
    first = JobSpec(task_name="part", task_kwargs=arguments)
    other = JobSpec(task_name="part", task_kwargs=arguments, depends_on=[context.job.id], after=[0], queue="fast")
    return [first] + [other] * (PARTS - 1)


def _ping() -> JobSpec:
    return JobSpec(task_name="ping", queueing_lock=f"ping {random.randrange(PINGS)}")


@app.task(name="grower_async", pass_context=True)
async def grower_async(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    """Defers parts, and makes its waiting child depend on them."""
    manager = app.job_manager
    run_id = await ledger.begin(context)
    parents = await insist(context.get_parent_statuses_async)
    parts = await insist(partial(manager.defer_jobs_async, _parts(context)))
    await anyio.sleep(work_ms / 1000)
    for child in await insist(partial(manager.get_children_async, context.job.id)):
        job = await insist(partial(manager.get_job_async, child))
        if job.task_name.startswith("join"):
            try:
                await insist(partial(manager.add_dependencies_async, child, parts))
            except JobAlreadyStarted:
                await ledger.note(run_id, TOO_LATE)
    try:
        await insist(partial(manager.defer_jobs_async, [_ping()]))
    except AlreadyEnqueued:
        await ledger.note(run_id, "already enqueued")
    await ledger.end(run_id, "succeeded", parents)
    return _end(context, fails=False)


@app.task(name="grower_sync", pass_context=True)
def grower_sync(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    manager = app.job_manager
    run_id = sync_ledger.begin(context)
    parents = insist_sync(context, context.get_parent_statuses)
    parts = insist_sync(context, partial(manager.defer_jobs, _parts(context)))
    _sleep(work_ms / 1000)
    for child in insist_sync(context, partial(manager.get_children, context.job.id)):
        job = insist_sync(context, partial(manager.get_job, child))
        if job.task_name.startswith("join"):
            try:
                insist_sync(context, partial(manager.add_dependencies, child, parts))
            except JobAlreadyStarted:
                sync_ledger.note(run_id, TOO_LATE)
    try:
        insist_sync(context, partial(manager.defer_jobs, [_ping()]))
    except AlreadyEnqueued:
        sync_ledger.note(run_id, "already enqueued")
    sync_ledger.end(run_id, "succeeded", parents)
    return _end(context, fails=False)


@app.task(name="echo", pass_context=True)
async def echo(context: JobContext) -> dict[str, int]:
    return await _run(context, 1, fails=False)


@app.task(name="later_async", pass_context=True)
async def later_async(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    """Defers a job for a moment later."""
    run_id = await ledger.begin(context)
    await insist(app.configure_task("echo", schedule_in={"seconds": LATER_S}).defer_async)
    await ledger.end(run_id, "succeeded", await insist(context.get_parent_statuses_async))
    return _end(context, fails=False)


@app.task(name="held_async", pass_context=True)
async def held_async(context: JobContext, node: int, work_ms: int) -> dict[str, int]:
    """Runs until the ledger lets it go."""
    run_id = await ledger.begin(context)
    while not await ledger.may_go(node):  # noqa: ASYNC110 - it waits for another process
        await anyio.sleep(0.02)
    await ledger.end(run_id, "succeeded", await insist(context.get_parent_statuses_async))
    return _end(context, fails=False)
