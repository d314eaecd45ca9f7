"""A graph of 10,000 jobs, to be watched: regions with their stores, of which some fail, and a report over all."""

from __future__ import annotations

import itertools
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import click

from procrastinate_deps.demos.catalogue import module_name
from procrastinate_deps.demos.demo_app import app
from procrastinate_deps.demos.program import main
from procrastinate_deps.demos.progress import Bar
from procrastinate_deps.demos.stage import GRACE_S, check
from procrastinate_deps.jobs import CancelKind, Status
from procrastinate_deps.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from procrastinate_deps.workflow_info import WorkflowInfo
    from procrastinate_deps.workflows import Workflow, WorkflowBuilder

QUEUE = "demo_wide"

JOBS = 10_000
MIN_JOBS = 20
STORES_PER_REGION = 100
BROKEN_EACH = 130
"""Every so many stores one can't be counted."""

CONCURRENCY = 20
LOOK_INTERVAL_S = 0.25
# when nothing has ended for so long, and ten times a job's own pause, something is wrong
STALLED_S = 60.0

OPTIONS = (
    click.Option(
        ["--jobs"],
        type=click.IntRange(min=MIN_JOBS),
        default=JOBS,
        show_default=True,
        show_envvar=True,
        help="How many jobs it has.",
    ),
    click.Option(
        ["--pause"],
        metavar="SECONDS",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        show_envvar=True,
        help="How long each job takes; with 0.5 there is time to look at it.",
    ),
    click.Option(
        ["--concurrency"],
        type=click.IntRange(min=1),
        default=CONCURRENCY,
        show_default=True,
        show_envvar=True,
        help="How many jobs a worker runs at the same time.",
    ),
    click.Option(
        ["--processes"],
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        show_envvar=True,
        help="Worker processes; one: the worker runs in this one.",
    ),
)


@app.task(queue=QUEUE)
async def open_day(pause: float) -> None:
    await anyio.sleep(pause)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def load_region(region: int, pause: float) -> None:
    await anyio.sleep(pause)


@app.task(queue=QUEUE, run_when="all_succeeded")
async def count_store(store: int, broken: bool, pause: float) -> int:
    await anyio.sleep(pause)
    if broken:
        raise ConnectionError(f"store {store} can't be reached")
    return store


@app.task(queue=QUEUE, run_when="all_succeeded")
async def publish_store(store: int, pause: float) -> None:
    await anyio.sleep(pause)


@app.task(queue=QUEUE, run_when="any_succeeded")
async def sum_up_region(region: int, pause: float) -> None:
    await anyio.sleep(pause)


@app.task(queue=QUEUE, run_when="any_failed")
async def alert_region(region: int, pause: float) -> None:
    await anyio.sleep(pause)


@app.task(queue=QUEUE)
async def report(pause: float) -> None:
    await anyio.sleep(pause)


@dataclass(slots=True)
class Expected:
    """How many jobs are to end how."""

    total: int = 0
    failed: int = 0
    upstream: int = 0
    not_needed: int = 0

    def differences(self, info: WorkflowInfo) -> Iterator[str]:
        succeeded = self.total - self.failed - self.upstream - self.not_needed
        for what, found, expected in (
            ("jobs", info.total, self.total),
            ("succeeded", info.counts.get(Status.SUCCEEDED, 0), succeeded),
            ("failed", info.counts.get(Status.FAILED, 0), self.failed),
            ("cancelled as upstream", info.cancel_kinds.get(CancelKind.UPSTREAM, 0), self.upstream),
            ("cancelled as not needed", info.cancel_kinds.get(CancelKind.NOT_NEEDED, 0), self.not_needed),
        ):
            if found != expected:
                yield f"{found} {what}, not {expected}"


def region_sizes(jobs: int) -> list[int]:
    """How many stores each region has, so that it comes to so many jobs: two of a store, and three more of a region."""
    # the number of jobs and that of regions are both odd or both even
    regions = max(1, round(jobs / (2 * STORES_PER_REGION + 3)))
    regions += (jobs - regions) % 2
    stores = (jobs - 2 - 3 * regions) // 2
    return [stores // regions + (number < stores % regions) for number in range(regions)]


def build(workflow: WorkflowBuilder, jobs: int, pause: float) -> Expected:
    expected = Expected(total=jobs)
    opened = workflow.add(open_day, pause)
    reported = workflow.add(report, pause)
    stores = itertools.count(1)
    for region, size in enumerate(region_sizes(jobs), start=1):
        loaded = workflow.add(load_region.configure(depends_on=opened), region, pause)
        counted = []
        broken = 0
        for store in itertools.islice(stores, size):
            is_broken = store % BROKEN_EACH == 0
            broken += is_broken
            counted.append(workflow.add(count_store.configure(depends_on=loaded), store, is_broken, pause))
            workflow.add(publish_store.configure(depends_on=counted[-1]), store, pause)
        summed = workflow.add(sum_up_region.configure(depends_on=counted), region, pause)
        workflow.add(alert_region.configure(depends_on=counted), region, pause)
        summed >> reported
        expected.failed += broken
        expected.upstream += broken
        expected.not_needed += not broken
    return expected


async def demo(jobs: int = JOBS, pause: float = 0.0, concurrency: int = CONCURRENCY, processes: int = 1) -> None:
    async with app.workflow("demo: wide", metadata={"jobs": jobs}) as workflow:
        expected = build(workflow, jobs, pause)
    click.echo(f"Workflow {workflow.id} has {jobs:,} jobs. Watch it: python -m procrastinate_deps dashboard")

    try:
        async with working(concurrency, processes) as stopped:
            await watch(workflow, stopped, max(STALLED_S, 10 * pause))
    finally:
        with anyio.CancelScope(shield=True):
            info = await workflow.refresh_async()
            if info.live:
                # the next one's workers would run them
                await workflow.cancel_async()
    click.echo(f"{', '.join(f'{count:,} {status}' for status, count in info.counts.items() if count)}.")
    differences = list(expected.differences(info))
    check(not differences, "; ".join(differences))
    await check_every_edge(workflow)


@asynccontextmanager
async def working(concurrency: int, processes: int) -> AsyncIterator[anyio.Event]:
    """Workers for as long as the block lasts; the event says that they have stopped before."""
    stopped = anyio.Event()
    if processes > 1:
        words = ["-m", "procrastinate_deps", "--app", f"{module_name('demo_app')}.app", "worker", QUEUE]
        words += ["--processes", str(processes), "--concurrency", str(concurrency), "--log-level", "critical"]
        # no pipe: what they say is for who watches
        async with await anyio.open_process(
            [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=None, stderr=None
        ) as crew:

            async def wait() -> None:
                await crew.wait()
                stopped.set()

            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                try:
                    yield stopped
                finally:
                    if not stopped.is_set():
                        crew.terminate()
        return
    worker = Worker(app, name="demo", queues=[QUEUE], concurrency=concurrency, shutdown_graceful_timeout=GRACE_S)

    async def work() -> None:
        await worker.run()
        stopped.set()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        try:
            yield stopped
        finally:
            worker.stop()


async def watch(workflow: Workflow, stopped: anyio.Event, stalled_s: float) -> None:
    """Show how far it is until all has ended, or the workers have stopped (Ctrl-C), or nothing moves any more."""
    ended = -1
    stalled_at = anyio.current_time() + stalled_s
    with Bar() as bar:
        while not stopped.is_set():
            info = await workflow.refresh_async()
            bar.show(info)
            if info.live == 0:
                return
            if info.total - info.live != ended:
                ended = info.total - info.live
                stalled_at = anyio.current_time() + stalled_s
            if anyio.current_time() > stalled_at:
                return
            await anyio.sleep(LOOK_INTERVAL_S)


async def check_every_edge(workflow: Workflow) -> None:
    """No job is to have started before each of its parents had ended."""
    jobs = {job.id: job for job in await workflow.jobs_async(limit=None)}
    edges = await workflow.edges_async(limit=None)
    for edge in edges:
        started_at, ended_at = jobs[edge.child_id].started_at, jobs[edge.parent_id].finished_at
        check(
            started_at is None or (ended_at is not None and ended_at <= started_at),
            f"job {edge.child_id} started at {started_at}, and its parent {edge.parent_id} ended at {ended_at}",
        )
    click.echo(f"Each of {len(edges):,} edges was kept: no job started before its parents had ended.")


if __name__ == "__main__":
    main("wide")
