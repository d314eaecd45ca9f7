"""Following a workflow until it has ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.durations import counted, duration, percent
from procrastinate_deps.cli.news import listening
from procrastinate_deps.cli.output import STATUS_COLOURS, as_json, last_line, on_terminal, safe
from procrastinate_deps.cli.trees import progress_text
from procrastinate_deps.statements import first_unsuccessful_job, running_jobs
from procrastinate_deps.times import utc_now
from procrastinate_deps.workflow_info import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from procrastinate_deps.app import App
    from procrastinate_deps.statements import Running, RunningJob
    from procrastinate_deps.workflow_info import WorkflowInfo

AT_LEAST_S = 0.25
"""Between two looks, however much is announced."""

AT_MOST_S = 1.0
"""And without anything announced: progress and times are not."""

SHOWN_RUNNING = 10


@dataclass(frozen=True, slots=True)
class Look:
    """The workflow at one moment."""

    info: WorkflowInfo
    running: Running

    @property
    def over(self) -> bool:
        return self.info.status is not WorkflowStatus.RUNNING


def follow(app: App, workflow_id: int, output_format: str) -> WorkflowStatus:
    """Show the workflow until it has ended; how it did. Raises WorkflowNotFound, also when it is deleted meanwhile."""
    looks = _looks(app, workflow_id)
    if output_format == "json":
        last = _print_changes(looks, _as_json_line)
    elif on_terminal():
        last = _show_live(looks)
    else:
        last = _print_changes(looks, _as_text_line)
    if last.info.status is not WorkflowStatus.SUCCEEDED and output_format == "text":
        _say_why(app, last.info)
    return last.info.status


def _looks(app: App, workflow_id: int) -> Iterator[Look]:
    with listening(app) as news:
        while True:
            running = app.execute(running_jobs(SHOWN_RUNNING, workflow_id))
            # after what runs: of a workflow that has ended nothing does
            look = Look(app.job_manager.get_workflow(workflow_id), running)
            yield look
            if look.over:
                return
            news.wait(AT_LEAST_S, AT_MOST_S)


def _print_changes(looks: Iterator[Look], line: Any) -> Look:
    said: Any = None
    look: Look | None = None
    for look in looks:
        state = (look.info.status, tuple(look.info.counts.items()), look.info.cancel_requested)
        if state != said:
            said = state
            click.echo(line(look))
    if look is None:
        raise RuntimeError("nothing was looked at")
    return look


def _as_json_line(look: Look) -> str:
    info = look.info
    return json.dumps(
        {
            "at": utc_now().isoformat(),
            "status": info.status,
            "progress": info.progress,
            "total": info.total,
            "counts": as_json(info.counts),
            "running": as_json(look.running.jobs),
        }
    )


def _as_text_line(look: Look) -> str:
    info = look.info
    counts = ", ".join(f"{number:,} {status}" for status, number in info.counts.items() if number)
    at = f"{utc_now():%H:%M:%SZ}"
    return (
        f"{at} {info.status} {percent(info.progress)} of {counted(info.total, 'job')}{': ' if counts else ''}{counts}"
    )


def _say_why(app: App, info: WorkflowInfo) -> None:
    found = app.execute(first_unsuccessful_job(info.id))
    if found is not None:
        job_id, end = found
        reason = last_line(end.error) or end.cancel_reason or ""
        click.echo(safe(f"job {job_id} ({end.task_name}): {end.status}{f': {reason}' if reason else ''}"), err=True)
    click.echo(f"look: workflow show {info.id}; run it again: workflow retry {info.id}", err=True)


# on a terminal


def _show_live(looks: Iterator[Look]) -> Look:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    look = next(looks)
    # no thread that draws: each look is drawn once
    try:
        with Live(_picture(look, console.height), console=console, auto_refresh=False) as live:
            live.refresh()
            for look in looks:
                live.update(_picture(look, console.height), refresh=True)
    except KeyboardInterrupt:
        click.echo(f"\nit goes on: workflow watch {look.info.id}", err=True)
        raise
    return look


def _picture(look: Look, height: int) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    info = look.info
    colour = STATUS_COLOURS.get(info.status, "")
    head = Text.assemble(f"workflow {info.id} ", (safe(info.name), "bold"), "  ", (str(info.status), colour))
    if info.cancel_requested and not look.over:
        head.append("  cancelled by hand", style="magenta")
    line = Table.grid(padding=(0, 1, 0, 0), expand=True)
    line.add_column(ratio=1)
    for _ in range(2):
        line.add_column(no_wrap=True, justify="right")
    ended = info.total - info.live
    bar = ProgressBar(total=max(info.total, 1), completed=ended if info.total else 1, complete_style=colour or "blue")
    line.add_row(bar, percent(info.progress), f"{ended:,} of {info.total:,}")
    counts = Text(", ").join(
        [Text(f"{number:,} {status}", style=STATUS_COLOURS[status]) for status, number in info.counts.items() if number]
    )
    parts: list[RenderableType] = [head, line, Text.assemble(counts, (_times(info, ended), "dim"))]
    room = min(SHOWN_RUNNING, height - 6)
    if look.running.jobs and room > 0 and not look.over:
        parts.append(_running(look.running.jobs[:room]))
        if (left := look.running.count - min(room, len(look.running.jobs))) > 0:
            parts.append(Text(f"  and {left:,} more running", style="dim"))
    return Group(*parts)


def _times(info: WorkflowInfo, ended: int) -> str:
    if info.started_at is None:
        return "  not started"
    taken = ((info.finished_at or utc_now()) - info.started_at).total_seconds()
    if info.finished_at is not None:
        return f"  took {duration(taken)}"
    rate = f", {ended / taken:,.1f} jobs/s" if ended and taken > 1 else ""
    return f"  for {duration(taken)}{rate}"


def _running(jobs: list[RunningJob]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("  job", justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("for", justify="right", no_wrap=True)
    table.add_column("progress", no_wrap=True, overflow="ellipsis", ratio=4)
    for job in jobs:
        said = (
            ""
            if job.progress_done is None
            else progress_text(job.progress_done, job.progress_total, job.progress_message)
        )
        asked = "asked to abort  " if job.abort_requested else ""
        table.add_row(
            str(job.id), Text(safe(what(job))), duration(job.run_s), Text.assemble((asked, "magenta"), safe(said))
        )
    return table


def what(job: RunningJob) -> str:
    """The name of a job that says most in few words."""
    task = ".".join(job.task_name.split(".")[-2:])
    return f"{job.node} ({task})" if job.node else task
