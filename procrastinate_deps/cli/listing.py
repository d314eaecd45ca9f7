"""`list-queues`, `list-tasks`, `list-locks`, `list-workers`, `list-periodic`: what there is besides jobs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.output import format_option, print_rows
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.waiting import is_live
from procrastinate_deps.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.jobs import PeriodicTaskInfo, WorkerInfo

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
    "heartbeat": lambda row: f"{row['heartbeat_age_s']:.0f} s ago",
    "jobs": lambda row: _jobs(row["jobs"], row["running"]),
}

SHOWN_JOBS = 3
"""How many of the jobs that a worker is doing the text names; JSON has the first 20."""


def _jobs(jobs: dict[str, str], running: int) -> str:
    named = [f"{job_id} {task}" for job_id, task in list(jobs.items())[:SHOWN_JOBS]]
    more = [f"and {running - len(named)} more"] if running > len(named) else []
    return ", ".join(named + more)


@click.command(cls=Command, epilog="\b\nExample:\n  procrastinate-deps list-workers --format json")
@format_option
@click.pass_obj
def list_workers(settings: Settings, output_format: str) -> None:
    """List the workers that the database knows: live, stalled (no sign of life for 30 s) or lost."""
    with settings.database().open() as app:
        workers = app.job_manager.list_workers()
    print_rows([_with_state(worker) for worker in workers], _WORKER_COLUMNS, output_format, nothing="no workers")


_PERIODIC_COLUMNS: dict[str, Callable[[PeriodicTaskInfo], Any]] = {
    "task": lambda each: each.task_name,
    "periodic id": lambda each: each.periodic_id,
    "cron": lambda each: each.cron,
    "time zone": lambda each: each.timezone,
    "queue": lambda each: each.queue,
    "last": lambda each: each.last_at,
    "job": lambda each: each.last_job_id,
    "status": lambda each: each.last_job_status,
    "next": lambda each: each.next_at,
}


@click.command(cls=Command, epilog="\b\nExample:\n  procrastinate-deps list-periodic --format json")
@format_option
@click.pass_obj
def list_periodic(settings: Settings, output_format: str) -> None:
    """List the periodic tasks that workers have made known, each with its last and its next period, in UTC.

    A last period without a job was skipped, since a job with the task's queueing lock was waiting.
    """
    with settings.database().open() as app:
        tasks = app.job_manager.list_periodic_tasks()
    nothing = "no periodic tasks: workers make theirs known when they start"
    print_rows(tasks, _PERIODIC_COLUMNS, output_format, nothing=nothing)


def _with_state(worker: WorkerInfo) -> dict[str, Any]:
    not_live = "stalled" if worker.lost_at is None else "lost"
    return {**dataclasses.asdict(worker), "state": "live" if is_live(worker) else not_live}
