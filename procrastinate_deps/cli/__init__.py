"""The command line: `procrastinate-deps`, which is `python -m procrastinate_deps`."""

from __future__ import annotations

import sys

from procrastinate_deps.cli import (
    acting,
    check,
    dashboard,
    db,
    defer,
    job_status,
    jobs,
    listing,
    prune,
    queues,
    schema,
    shell,
    top,
    worker,
    workflow,
)
from procrastinate_deps.cli.output import tolerate_any_text
from procrastinate_deps.cli.program import ENVIRONMENT_PREFIX, program

for _command in (
    worker.worker,
    defer.defer,
    jobs.list_jobs,
    job_status.job_status,
    workflow.workflow,
    top.top,
    acting.cancel,
    acting.abort,
    acting.retry,
    acting.delete,
    queues.pause,
    queues.resume,
    prune.prune,
    listing.list_queues,
    listing.list_workers,
    listing.list_tasks,
    listing.list_locks,
    listing.list_periodic,
    schema.migrate,
    schema.schema,
    schema.healthchecks,
    check.check,
    shell.shell,
    db.db,
    dashboard.dashboard,
):
    program.add_command(_command)


def main() -> None:
    """Run one command and exit: 0 success, 1 an error in one line on stderr, 2 usage."""
    tolerate_any_text(sys.stdout, sys.stderr)
    program.main(auto_envvar_prefix=ENVIRONMENT_PREFIX)
