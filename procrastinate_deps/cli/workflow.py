"""`workflow list|show|watch|graph|cancel|retry|delete`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps import drawing
from procrastinate_deps.cli.arguments import JobId
from procrastinate_deps.cli.durations import bar, counted, duration, percent
from procrastinate_deps.cli.output import as_json, format_option, on_terminal, print_json, print_rows, safe
from procrastinate_deps.cli.program import Command, Failure
from procrastinate_deps.cli.targets import agree, dry_run_option, yes_option
from procrastinate_deps.dependencies import MAX_JOB_ID
from procrastinate_deps.jobs import Status
from procrastinate_deps.statements import WORKFLOWS_PAGE
from procrastinate_deps.times import utc_now
from procrastinate_deps.workflow_info import RetryMode, WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.workflow_info import WorkflowInfo

MAX_SHOWN = 100
"""How many jobs `show` draws for themselves: a tree of more is read by nobody."""

GROUP = "workflow"

_BAR = 12


@click.group(
    epilog="\b\nExamples:\n"
    "  procrastinate-deps workflow list --status running\n"
    "  procrastinate-deps workflow watch 3\n"
    "  procrastinate-deps workflow retry 3 --mode failed_and_downstream"
)
def workflow() -> None:
    """Look at workflows, and cancel, retry and delete them as a whole."""


_id_argument = click.argument("workflow_id", metavar="ID", type=JobId())


def seconds_taken(info: WorkflowInfo) -> float | None:
    """From its first start to its end, or until now; None: nothing of it has started."""
    if info.started_at is None:
        return None
    return max(0.0, ((info.finished_at or utc_now()) - info.started_at).total_seconds())


def info_as_json(info: WorkflowInfo) -> dict[str, Any]:
    return {**as_json(info), "live": info.live, "progress": info.progress, "duration_s": seconds_taken(info)}


def _progress(info: WorkflowInfo) -> str:
    shown = f"{percent(info.progress):>4}"
    return f"{bar(info.progress, _BAR)} {shown}" if on_terminal() else shown.strip()


def _count(*statuses: Status) -> Callable[[WorkflowInfo], int]:
    return lambda info: sum(info.counts[status] for status in statuses)


_COLUMNS: dict[str, Callable[[WorkflowInfo], Any]] = {
    "id": lambda info: info.id,
    "name": lambda info: info.name,
    "status": lambda info: info.status.value,
    "progress": _progress,
    "jobs": lambda info: info.total,
    "waiting": _count(Status.BLOCKED, Status.TODO),
    "doing": _count(Status.DOING),
    "succeeded": _count(Status.SUCCEEDED),
    "failed": _count(Status.FAILED, Status.ABORTED),
    "cancelled": _count(Status.CANCELLED),
    "started": lambda info: info.started_at,
    "duration": lambda info: None if (taken := seconds_taken(info)) is None else duration(taken),
}


@workflow.command(
    "list",
    cls=Command,
    group=GROUP,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps workflow list --name nightly --status failed\n"
    "  procrastinate-deps workflow list --limit 20 --after 300 --format json",
)
@click.option("--name", help="Only workflows of this name.")
@click.option("--status", type=click.Choice([each.value for each in WorkflowStatus]), help="Only with this status.")
@click.option("--nested", is_flag=True, help="Those that are nested in others, too.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=WORKFLOWS_PAGE, show_default=True, help="How many at most."
)
@click.option(
    "--after",
    type=click.IntRange(0, MAX_JOB_ID),
    help="Only workflows with a smaller id: the last one of the page before.",
)
@format_option
@click.pass_obj
def list_workflows(settings: Settings, /, nested: bool, limit: int, output_format: str, **filters: Any) -> None:
    """List workflows with their counts and progress, the newest first."""
    with settings.database().open() as app:
        found = app.job_manager.list_workflows(limit=limit + 1, roots=not nested, **filters)
    page = found[:limit]
    if output_format == "json":
        print_json([info_as_json(info) for info in page])
    else:
        print_rows(page, _COLUMNS, output_format, nothing="no such workflows")
    if len(found) > limit:
        click.echo(f"there are more: workflow list --after {page[-1].id}", err=True)


@workflow.command(
    "show",
    cls=Command,
    group=GROUP,
    epilog="\b\nExamples:\n  procrastinate-deps workflow show 3\n  procrastinate-deps workflow show 3 --max-jobs 500",
)
@_id_argument
@click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    default=MAX_SHOWN,
    show_default=True,
    help="In a larger workflow the jobs of one task and layer are one line.",
)
@format_option
@click.pass_obj
def show(settings: Settings, workflow_id: int, max_jobs: int, output_format: str) -> None:
    """Draw the jobs of a workflow as a tree, with their statuses.

    Each job stands once: below the parent that decided when it could start, or that it waits for. The others are named.
    """
    from procrastinate_deps.cli.trees import print_workflow, read_workflow

    with settings.database().open() as app:
        found = read_workflow(app, workflow_id, max_jobs)
    if output_format == "json":
        graph = drawing.to_dict(found.graph, utc_now(), max_nodes=max_jobs, max_edges=max(len(found.graph.edges), 1))
        nested = [info_as_json(info) for info in found.nested]
        print_json({**info_as_json(found.info), "nested": nested, "graph": graph})
    else:
        print_workflow(found)


@workflow.command(
    "watch",
    cls=Command,
    group=GROUP,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps workflow watch 3\n"
    "  procrastinate-deps workflow watch 3 && procrastinate-deps workflow show 3",
)
@_id_argument
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the output is written; json: an object per line and change.",
)
@click.pass_context
def watch(ctx: click.Context, workflow_id: int, output_format: str) -> None:
    """Follow a workflow until it has ended: live on a terminal, in a pipe a line per change.

    The exit status is 0 when it has succeeded, and 1 when it has failed or was cancelled. Ctrl-C only ends this.
    """
    from procrastinate_deps.cli.watching import follow

    settings: Settings = ctx.obj
    with settings.database().open() as app:
        status = follow(app, workflow_id, output_format)
    if status is not WorkflowStatus.SUCCEEDED:
        ctx.exit(1)


@workflow.command(
    "graph",
    cls=Command,
    group=GROUP,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps workflow graph 3 > graph.mmd\n"
    "  procrastinate-deps workflow graph 3 --format dot --direction TD\n"
    "  procrastinate-deps workflow graph 3 --format svg --output graph.svg",
)
@_id_argument
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["mermaid", "dot", "svg", "json"]),
    default="mermaid",
    show_default=True,
    help="How it is written.",
)
@click.option("-o", "--output", metavar="FILE", help="Where to.  [default: the standard output]")
@click.option(
    "--direction",
    type=click.Choice(["LR", "TD"]),
    default="LR",
    show_default=True,
    help="From left to right or from top to bottom; of mermaid, dot and svg.",
)
@click.option(
    "--max-nodes",
    type=click.IntRange(min=1),
    default=drawing.MAX_NODES,
    show_default=True,
    help="In a larger graph the jobs of one task and layer are one box.",
)
@click.option(
    "--max-edges", type=click.IntRange(min=0), default=drawing.MAX_EDGES, show_default=True, help="The same for arrows."
)
@click.pass_obj
def graph(
    settings: Settings,
    workflow_id: int,
    output_format: str,
    output: str | None,
    direction: str,
    max_nodes: int,
    max_edges: int,
) -> None:
    """Write the graph of a workflow as Mermaid, for Graphviz, as SVG or as JSON."""
    with settings.database().open() as app:
        chosen = app.get_workflow(workflow_id)
        found = chosen.get_graph()
    limits = {"max_nodes": max_nodes, "max_edges": max_edges}
    match output_format:
        case "mermaid":
            text = drawing.to_mermaid(found, **limits, direction=direction)
        case "dot":
            text = drawing.to_dot(found, **limits, direction=direction)
        case "svg":
            from procrastinate_deps.svg import to_svg

            text = to_svg(found, **limits, direction=direction, title=f"{chosen.name} ({workflow_id})")
        case _:
            text = drawing.to_json(found, utc_now(), **limits) + "\n"
    if output is None or output == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"can't write {output!r}: {error.strerror}; give another --output") from error
    click.echo(f"{safe(output)}: {counted(len(found.jobs), 'job')}", err=True)


@workflow.command(
    "cancel",
    cls=Command,
    group=GROUP,
    epilog="\b\nExamples:\n  procrastinate-deps workflow cancel 3\n"
    "  procrastinate-deps workflow cancel 3 --no-abort --yes",
)
@_id_argument
@click.option("--abort/--no-abort", default=True, show_default=True, help="Ask the running jobs to stop, too.")
@yes_option
@dry_run_option
@click.pass_obj
def cancel(settings: Settings, workflow_id: int, abort: bool, yes: bool, dry_run: bool) -> None:
    """Cancel the jobs of a workflow that wait, and ask those that run to stop. It takes no more jobs until a retry."""
    with settings.database().open() as app:
        info = app.job_manager.get_workflow(workflow_id)
        waiting = info.counts[Status.BLOCKED] + info.counts[Status.TODO]
        running = (
            f" and ask {info.counts[Status.DOING]:,} running to stop" if abort and info.counts[Status.DOING] else ""
        )
        what = f"cancel {counted(waiting, 'job')}{running} of {_name(info)}"
        if _go_on(what, yes, dry_run):
            done = app.job_manager.cancel_workflow(workflow_id, abort)
            click.echo(f"{counted(done.cancelled, 'job')} cancelled, {done.abort_requested:,} asked to abort")


@workflow.command(
    "retry",
    cls=Command,
    group=GROUP,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps workflow retry 3\n"
    "  procrastinate-deps workflow retry 3 --mode failed_and_downstream --yes",
)
@_id_argument
@click.option(
    "--mode",
    type=click.Choice([each.value for each in RetryMode]),
    default=RetryMode.FAILED.value,
    show_default=True,
    help="What runs again: what failed, was aborted or cancelled by hand; that and all after it; everything.",
)
@yes_option
@dry_run_option
@click.pass_obj
def retry(settings: Settings, workflow_id: int, mode: str, yes: bool, dry_run: bool) -> None:
    """Run jobs of a workflow again that have ended; running ones are left alone."""
    with settings.database().open() as app:
        info = app.job_manager.get_workflow(workflow_id)
        ended = info.total - info.live
        bad = _count(Status.FAILED, Status.ABORTED)(info)
        which = {
            "failed": f"{bad:,} failed or aborted, and what was cancelled",
            "failed_and_downstream": f"{bad:,} failed or aborted, what was cancelled, and all after them",
            "all": f"all that have ended: {counted(ended, 'job')}",
        }[mode]
        if _go_on(f"retry jobs of {_name(info)} ({which})", yes, dry_run):
            click.echo(f"{counted(app.job_manager.retry_workflow(workflow_id, mode), 'job')} to run again")


@workflow.command(
    "delete",
    cls=Command,
    group=GROUP,
    epilog="\b\nExamples:\n  procrastinate-deps workflow delete 3 --dry-run\n"
    "  procrastinate-deps workflow delete 3 --yes",
)
@_id_argument
@yes_option
@dry_run_option
@click.pass_obj
def delete(settings: Settings, workflow_id: int, yes: bool, dry_run: bool) -> None:
    """Delete a workflow, all of its jobs, and what is nested in it.

    Live jobs count as cancelled for their children elsewhere.
    """
    with settings.database().open() as app:
        info = app.job_manager.get_workflow(workflow_id)
        live = f", of which {info.live:,} have not ended" if info.live else ""
        if _go_on(f"delete {_name(info)} with {counted(info.total, 'job')}{live}", yes, dry_run):
            click.echo(f"deleted, with {counted(app.job_manager.delete_workflow(workflow_id), 'job')}")


def _name(info: WorkflowInfo) -> str:
    return f"workflow {info.id} {safe(repr(info.name))}"


def _go_on(what: str, yes: bool, dry_run: bool) -> bool:
    if dry_run:
        click.echo(f"would {what}")
        return False
    agree(f"{what}?", yes=yes)
    return True
