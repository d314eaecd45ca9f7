"""`list-jobs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.arguments import JobId
from procrastinate_deps.cli.output import format_option, last_line, moment, print_rows
from procrastinate_deps.cli.program import Command
from procrastinate_deps.dependencies import MAX_JOB_ID
from procrastinate_deps.jobs import Gate, Job, Status
from procrastinate_deps.statements import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.cli.settings import Settings

_LIST_COLUMNS: dict[str, Callable[[Job], Any]] = {
    "id": lambda job: job.id,
    "status": lambda job: job.status,
    "queue": lambda job: job.queue,
    "task": lambda job: _brief_name(job.task_name),
    "attempts": lambda job: job.attempts,
    "finished": lambda job: job.finished_at,
    "note": lambda job: _note(job),
}


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps list-jobs --queue mails --status failed\n"
    "  procrastinate-deps list-jobs --workflow 3 --status doing\n"
    "  procrastinate-deps list-jobs --limit 100 --after 2700\n"
    "  procrastinate-deps list-jobs --status blocked --format json",
)
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--task", help="Only jobs of this task.")
@click.option("--status", type=click.Choice([each.value for each in Status]), help="Only jobs with this status.")
@click.option("--lock", help="Only jobs with this lock.")
@click.option("--queueing-lock", help="Only jobs with this queueing lock.")
@click.option("--workflow", "workflow_id", type=JobId(), help="Only jobs of this workflow, and of those nested in it.")
@click.option("--limit", type=click.IntRange(min=1), default=PAGE_SIZE, show_default=True, help="How many at most.")
@click.option(
    "--after", type=click.IntRange(0, MAX_JOB_ID), help="Only jobs with a greater id: the last one of the page before."
)
@format_option
@click.pass_obj
def list_jobs(settings: Settings, /, limit: int, output_format: str, **filters: Any) -> None:
    """List jobs, by id."""
    with settings.database().open() as app:
        found = app.job_manager.list_jobs(limit=limit + 1, **filters)
    jobs = found[:limit]
    print_rows(jobs, _LIST_COLUMNS, output_format, nothing="no such jobs")
    if len(found) > limit:
        click.echo(f"there are more: list-jobs --after {jobs[-1].id}", err=True)


def _brief_name(task: str) -> str:
    """On a terminal the end of a long dotted name: a whole one would be folded into four lines."""
    parts = task.split(".")
    return f"..{'.'.join(parts[-2:])}" if sys.stdout.isatty() and len(parts) > 2 else task


def _note(job: Job) -> str:
    """What a person wants to know next about a job with this status."""
    match job.status:
        case Status.TODO if job.gate is Gate.SCHEDULED:
            return f"not before {moment(job.scheduled_at)}"
        case Status.TODO if job.gate is Gate.LOCK:
            return f"waits for the lock {job.lock}"
        case Status.DOING if job.abort_requested:
            return "asked to abort"
        case Status.CANCELLED:
            return job.cancel_reason or str(job.cancel_kind)
        case Status.FAILED | Status.ABORTED:
            return last_line(job.error)
        case _:
            return ""
