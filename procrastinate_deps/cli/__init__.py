"""The command line: `procrastinate-deps`, which is `python -m procrastinate_deps`."""

from __future__ import annotations

import sys

from procrastinate_deps.cli import db, defer, jobs, listing, prune, schema, worker
from procrastinate_deps.cli.output import tolerate_any_text
from procrastinate_deps.cli.program import ENVIRONMENT_PREFIX, program

for _command in (
    worker.worker,
    defer.defer,
    jobs.list_jobs,
    jobs.job_status,
    jobs.cancel,
    jobs.retry,
    prune.prune,
    listing.list_queues,
    listing.list_workers,
    listing.list_tasks,
    listing.list_locks,
    listing.list_periodic,
    schema.migrate,
    schema.schema,
    schema.healthchecks,
    db.db,
):
    program.add_command(_command)


def main() -> None:
    """Run one command and exit: 0 success, 1 an error in one line on stderr, 2 usage."""
    tolerate_any_text(sys.stdout, sys.stderr)
    program.main(auto_envvar_prefix=ENVIRONMENT_PREFIX)
