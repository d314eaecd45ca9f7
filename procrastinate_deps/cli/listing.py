"""`list-queues`, `list-tasks`, `list-locks`, `list-workers`: what there is besides jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.output import as_json, format_option, print_rows
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.waiting import is_live
from procrastinate_deps.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.jobs import WorkerInfo

Count = dict[str, Any]


def _column(name: str) -> Callable[[Count], Any]:
    return lambda row: row[name]


_COUNTS = {"jobs": _column("jobs_count"), **{status.value: _column(status.value) for status in Status}}


def _filters(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--lock", help="Count only jobs with this lock."),
        click.option("--status", type=click.Choice([each.value for each in Status]), help="Only with this status."),
        click.option("--task", help="Count only jobs of this task."),
        click.option("--queue", help="Count only jobs of this queue."),
    ):
        function = option(function)
    return function


@click.command(cls=Command, epilog="\b\nExample:\n  procrastinate-deps list-queues --format json")
@_filters
@format_option
@click.pass_obj
def list_queues(settings: Settings, /, output_format: str, **filters: Any) -> None:
    """Count jobs by queue and status, and show which queues are paused."""
    with settings.database().open() as app:
        rows = app.job_manager.list_queues(**filters)
    columns = {"queue": _column("name"), "paused": _column("paused"), **_COUNTS}
    print_rows(rows, columns, output_format, nothing="no queues")


@click.command(cls=Command, epilog="\b\nExample:\n  procrastinate-deps list-tasks --queue mails")
@_filters
@format_option
@click.pass_obj
def list_tasks(settings: Settings, /, output_format: str, **filters: Any) -> None:
    """Count jobs by task and status."""
    with settings.database().open() as app:
        rows = app.job_manager.list_tasks(**filters)
    print_rows(rows, {"task": _column("name"), **_COUNTS}, output_format, nothing="no tasks")


@click.command(cls=Command, epilog="\b\nExample:\n  procrastinate-deps list-locks --status doing")
@_filters
@format_option
@click.pass_obj
def list_locks(settings: Settings, /, output_format: str, **filters: Any) -> None:
    """Count jobs by lock and status."""
    with settings.database().open() as app:
        rows = app.job_manager.list_locks(**filters)
    print_rows(rows, {"lock": _column("name"), **_COUNTS}, output_format, nothing="no locks")


_WORKER_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "id": _column("id"),
    "name": _column("name"),
    "state": _column("state"),
    "queues": lambda row: "all" if row["queues"] is None else ", ".join(row["queues"]),
    "running": lambda row: f"{row['running']} of {row['concurrency']}",
    "host": _column("hostname"),
    "process": _column("pid"),
    "version": _column("version"),
    "started": lambda row: row["started_at"],
    "heartbeat": lambda row: row["heartbeat_at"],
}


@click.command(cls=Command, epilog="\b\nExample:\n  procrastinate-deps list-workers --format json")
@format_option
@click.pass_obj
def list_workers(settings: Settings, output_format: str) -> None:
    """List the workers that the database knows: live, stalled (no sign of life for 30 s) or lost."""
    with settings.database().open() as app:
        workers = app.job_manager.list_workers()
    print_rows([_with_state(worker) for worker in workers], _WORKER_COLUMNS, output_format, nothing="no workers")


def _with_state(worker: WorkerInfo) -> dict[str, Any]:
    not_live = "stalled" if worker.lost_at is None else "lost"
    return {**as_json(worker), "state": "live" if is_live(worker) else not_live}
