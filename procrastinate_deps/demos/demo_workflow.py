"""A workflow that runs in the order of its dependencies.

Three jobs extract data, and one of them fails. process_data waits for all three, looks at how they ended and does what
it can. publish wants every parent to succeed, so it is cancelled. clean_up runs whatever happened.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli.program import ENVIRONMENT_PREFIX
from procrastinate_deps.demos.demo_app import QUEUE, clean_up, extract, process_data, publish
from procrastinate_deps.demos.program import VARIABLE_PREFIX, main
from procrastinate_deps.demos.progress import Step
from procrastinate_deps.demos.stage import print_outcome, run_workflow
from procrastinate_deps.jobs import CancelKind, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

APP_PATH = f"{extract.func.__module__}.app"

OPTIONS = (
    click.Option(
        ["--defer-only"], is_flag=True, show_envvar=True, help="Only defer the jobs, and say how to run them."
    ),
)


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


async def demo(defer_only: bool = False) -> None:
    steps = await defer_workflow()
    if defer_only:
        print_deferred(steps)
    else:
        print_outcome(steps, await run_workflow(steps, [QUEUE]))


if __name__ == "__main__":
    main("demo_workflow", prefix=VARIABLE_PREFIX)
