"""A workflow that runs in the order of its dependencies: `python -m procrastinate_deps.demos.demo_workflow`.

Three jobs extract data, and one of them fails. process_data waits for all three, looks at how they ended and does what
it can. publish wants every parent to succeed, so it is cancelled. clean_up runs whatever happened.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from procrastinate_deps.cli import logs
from procrastinate_deps.cli.output import tolerate_any_text
from procrastinate_deps.cli.program import ENVIRONMENT_PREFIX, LOG_LEVELS, Failure, failing_in_one_line
from procrastinate_deps.cli.settings import Settings
from procrastinate_deps.demos.demo_app import QUEUE, app, clean_up, extract, process_data, publish
from procrastinate_deps.demos.progress import Step, described, view
from procrastinate_deps.jobs import CancelKind, Status
from procrastinate_deps.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.jobs import Job

APP_PATH = f"{extract.func.__module__}.app"
CONCURRENCY = 4
LOOK_INTERVAL_S = 0.05
# it takes a second or two; after so long something is wrong, and it says what
DEADLINE_S = 60.0
# for a job of somebody else's that the worker has taken
GRACE_S = 10.0

# Those who tell which database is used, and when it has to be started first.
_TELLING_LOGGERS = ("procrastinate_deps.connectors.default", "procrastinate_deps.embedded")


async def defer_workflow() -> list[Step]:
    """Defer the jobs, and say how each of them is to end."""
    users = await extract.defer_async(source="users")
    orders = await extract.defer_async(source="orders", reachable=False)
    prices = await extract.defer_async(source="prices")
    processed = await process_data.configure(depends_on=[users, orders, prices]).defer_async()
    published = await publish.configure(depends_on=[orders, processed]).defer_async()
    cleaned = await clean_up.configure(depends_on=[processed, published]).defer_async()

    succeeded = {"status": Status.SUCCEEDED}
    partial = {"complete": False, "without": [orders]}
    upstream = {
        "status": Status.CANCELLED,
        "cancel_kind": CancelKind.UPSTREAM,
        "cancel_reason": f"all_succeeded: parent {orders} failed",
    }
    return [
        Step(users, "extract users", [], succeeded),
        Step(orders, "extract orders", [], {"status": Status.FAILED}),
        Step(prices, "extract prices", [], succeeded),
        Step(processed, "process_data", [users, orders, prices], {**succeeded, "result": partial}),
        Step(published, "publish", [orders, processed], upstream),
        Step(cleaned, "clean_up", [processed, published], succeeded),
    ]


async def run_workflow(steps: Sequence[Step]) -> dict[int, Job]:
    """Run a worker until all jobs have ended, and show their progress; the jobs as they are then."""
    worker = Worker(app, name="demo", queues=[QUEUE], concurrency=CONCURRENCY, shutdown_graceful_timeout=GRACE_S)
    stopped = anyio.Event()

    async def work() -> None:
        await worker.run()
        stopped.set()

    with view(steps) as progress:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            with anyio.move_on_after(DEADLINE_S):
                # stopped: by Ctrl-C
                while not stopped.is_set():
                    jobs = await look(steps)
                    progress.show(jobs)
                    if all(step.is_over(jobs) for step in steps):
                        break
                    await anyio.sleep(LOOK_INTERVAL_S)
            worker.stop()
        jobs = await look(steps)
        progress.show(jobs)
    return jobs


async def look(steps: Sequence[Step]) -> dict[int, Job]:
    """The workflow's jobs, by id."""
    ids = {step.job_id for step in steps}
    found = await app.job_manager.list_jobs_async(queue=QUEUE, after=min(ids) - 1)
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


def print_deferred(steps: Sequence[Step]) -> None:
    click.echo("Deferred:")
    for step in steps:
        parents = f" (after {', '.join(map(str, step.parents))})" if step.parents else ""
        click.echo(f"  job {step.job_id} {step.name}{parents}")
    here = "" if f"{ENVIRONMENT_PREFIX}_DSN" not in os.environ else f", with the same {ENVIRONMENT_PREFIX}_DSN"
    command = f"{_python()} -m procrastinate_deps --app {APP_PATH}"
    click.echo(f"Run them, in any terminal{here}:\n  {command} worker")
    click.echo(f"Look at them:\n  {command} list-jobs --queue {QUEUE}")


def _python() -> str:
    """This interpreter as one types it here."""
    for name in ("python", "python3"):
        if shutil.which(name) == sys.executable:
            return name
    executable = Path(sys.executable)
    if executable.is_relative_to(Path.cwd()):
        executable = executable.relative_to(Path.cwd())
    return shlex.quote(str(executable))


async def demo(defer_only: bool) -> None:
    async with app.open_async():
        await app.schema_manager.apply_async()
        steps = await defer_workflow()
        if defer_only:
            print_deferred(steps)
        else:
            print_outcome(steps, await run_workflow(steps))


def configure_log(level: str | None) -> None:
    logs.configure(level or "warning", "text", text_format="%(message)s" if level is None else logs.TEXT_FORMAT)
    if level is None:
        for name in _TELLING_LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
        # a job that fails belongs to the show; its error stands in the table
        runner = logging.getLogger("procrastinate_deps.worker.runner")
        runner.addFilter(lambda record: getattr(record, "action", None) != "job_error")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--defer-only", is_flag=True, show_envvar=True, help="Only defer the jobs, and say how to run them.")
@click.option(
    "--log-level", type=click.Choice(LOG_LEVELS, case_sensitive=False), show_envvar=True, help="What is logged."
)
def main(defer_only: bool, log_level: str | None) -> None:
    """Run a workflow in the order of its dependencies.

    The database is that of PROCRASTINATE_DEPS_DSN or of libpq's variables (PGHOST, PGDATABASE, ...), else the embedded
    server, which is started. Its schema is migrated. Status 0: every job ended as it should.
    """
    configure_log(log_level)
    with failing_in_one_line(Settings(log_level=log_level)):
        anyio.run(demo, defer_only)


if __name__ == "__main__":
    tolerate_any_text(sys.stdout, sys.stderr)
    main(auto_envvar_prefix=f"{ENVIRONMENT_PREFIX}_DEMO")
