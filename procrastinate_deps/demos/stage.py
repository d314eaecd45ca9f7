"""What the demos share: a worker that runs until their jobs have ended, a view of it, and checks of how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click

from procrastinate_deps.cli.program import Failure
from procrastinate_deps.demos.demo_app import app
from procrastinate_deps.demos.progress import Step, described, view
from procrastinate_deps.jobs import Status
from procrastinate_deps.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from procrastinate_deps.dependencies import HasJobId
    from procrastinate_deps.jobs import CancelKind, Job

CONCURRENCY = 4
LOOK_INTERVAL_S = 0.05
# it takes a second or two; after so long something is wrong, and it says what
DEADLINE_S = 60.0
# for a job of somebody else's that the worker has taken
GRACE_S = 10.0


def succeeded(name: str, job: HasJobId, after: Iterable[HasJobId] = (), **fields: Any) -> Step:
    """A job that is to succeed, after others; `fields` are what else it is to be, as in `result=3`."""
    return _step(name, job, after, status=Status.SUCCEEDED, **fields)


def failed(name: str, job: HasJobId, after: Iterable[HasJobId] = (), **fields: Any) -> Step:
    return _step(name, job, after, status=Status.FAILED, **fields)


def cancelled(name: str, job: HasJobId, kind: CancelKind, after: Iterable[HasJobId] = (), **fields: Any) -> Step:
    """A job that is never to run."""
    return _step(name, job, after, status=Status.CANCELLED, cancel_kind=kind, started_at=None, **fields)


def _step(name: str, job: HasJobId, after: Iterable[HasJobId], **fields: Any) -> Step:
    return Step(job.job_id, name, [parent.job_id for parent in after], fields)


async def play(steps: Sequence[Step], *queues: str) -> dict[int, Job]:
    """Run the jobs and show it, until all have ended; raise Failure when one has not ended, or not run, as it should.

    A job is to start after all of its parents have ended.
    """
    jobs = await run_workflow(steps, queues)
    print_outcome(steps, jobs)
    check_order(steps, jobs)
    return jobs


async def run_workflow(steps: Sequence[Step], queues: Sequence[str]) -> dict[int, Job]:
    """Run a worker until all jobs have ended, and show their progress; the jobs as they are then."""
    worker = Worker(app, name="demo", queues=queues, concurrency=CONCURRENCY, shutdown_graceful_timeout=GRACE_S)
    stopped = anyio.Event()
    interrupted = False

    async def work() -> None:
        await worker.run()
        stopped.set()

    with view(steps) as progress:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            with anyio.move_on_after(DEADLINE_S):
                while not interrupted:
                    # before the look: what the worker has ended until then is seen
                    interrupted = stopped.is_set()
                    jobs = await look(steps, queues)
                    progress.show(jobs)
                    if all(step.is_over(jobs) for step in steps):
                        interrupted = False
                        break
                    await anyio.sleep(LOOK_INTERVAL_S)
            worker.stop()
        jobs = await look(steps, queues)
        progress.show(jobs)
    if interrupted:
        left = sum(not step.is_over(jobs) for step in steps)
        raise Failure(
            f"stopped before {left} of its {len(steps)} jobs had ended: any worker of the demos runs the rest"
        )
    return jobs


async def look(steps: Sequence[Step], queues: Iterable[str]) -> dict[int, Job]:
    """The jobs as they are, by id."""
    ids = {step.job_id for step in steps}
    found = [
        job
        for queue in queues
        for job in await app.job_manager.list_jobs_async(queue=queue, after=min(ids) - 1, limit=None)
    ]
    return {job.id: job for job in found if job.id in ids}


def print_outcome(steps: Sequence[Step], jobs: dict[int, Job]) -> None:
    """Each job's final status. Raises Failure when one is not the expected one."""
    click.echo("\nFinal statuses:")
    for step in steps:
        click.echo(f"  job {step.job_id} {step.name}: {described(step, jobs)}")
    unexpected = [difference for step in steps for difference in step.differences(jobs)]
    if unexpected:
        raise Failure(f"not as expected: {'; '.join(unexpected)}")
    click.echo("All as expected.")


def check_order(steps: Iterable[Step], jobs: dict[int, Job]) -> None:
    """Every job that ran is to have started after each of its parents had ended. A parent that was deleted has."""
    for step in steps:
        started_at = jobs[step.job_id].started_at if step.job_id in jobs else None
        for parent in step.parents:
            if started_at is None or parent not in jobs:
                continue
            ended_at = jobs[parent].finished_at
            check(
                ended_at is not None and ended_at <= started_at,
                f"job {step.job_id} ({step.name}) started at {started_at}, and its parent {parent} ended at {ended_at}",
            )


def check_overlap(what: str, together: Collection[HasJobId], jobs: dict[int, Job]) -> None:
    """At least two of these jobs are to have run at the same time."""
    times = sorted(
        (at, change)
        for job in together
        for at, change in ((jobs[job.job_id].started_at, 1), (jobs[job.job_id].finished_at, -1))
        if at is not None
    )
    running = most = 0
    for _, change in times:
        running += change
        most = max(most, running)
    check(most >= 2, f"{what} ran one after the other")
    click.echo(f"{most} of the {len(together)} {what} ran at the same time.")


def check(met: bool, otherwise: str) -> None:
    """Raises Failure, with status 1, unless it is met."""
    if not met:
        raise Failure(f"not as expected: {otherwise}")
