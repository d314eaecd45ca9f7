"""`pause`, `resume`: queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli.durations import counted
from procrastinate_deps.cli.output import safe
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.targets import agree, dry_run_option, yes_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.manager import JobManager


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  procrastinate-deps pause mails reports\n  procrastinate-deps pause --all --yes",
)
@click.argument("queues", metavar="[QUEUE...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All queues that have jobs.")
@yes_option
@dry_run_option
@click.pass_obj
def pause(settings: Settings, queues: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> None:
    """Let no more jobs of queues start; those that run go on."""
    _check(queues, everything)
    with settings.database().open() as app:
        manager = app.job_manager
        chosen = _chosen(queues, lambda: [each["name"] for each in manager.list_queues() if not each["paused"]])
        if _go_on("pause", chosen, everything, yes, dry_run):
            _each(manager.pause_queue, chosen, "paused", "was paused already")


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  procrastinate-deps resume mails\n  procrastinate-deps resume --all --yes",
)
@click.argument("queues", metavar="[QUEUE...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All queues that are paused.")
@yes_option
@dry_run_option
@click.pass_obj
def resume(settings: Settings, queues: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> None:
    """Let jobs of paused queues start again."""
    _check(queues, everything)
    with settings.database().open() as app:
        manager: JobManager = app.job_manager
        chosen = _chosen(queues, manager.list_paused_queues)
        if _go_on("resume", chosen, everything, yes, dry_run):
            _each(manager.resume_queue, chosen, "goes on", "was not paused")


def _check(queues: tuple[str, ...], everything: bool) -> None:
    if bool(queues) == everything:
        raise click.UsageError("say which queues: their names, or else --all")


def _chosen(queues: tuple[str, ...], all_queues: Callable[[], list[str]]) -> list[str]:
    return list(dict.fromkeys(queues)) or all_queues()


def _go_on(verb: str, queues: list[str], everything: bool, yes: bool, dry_run: bool) -> bool:
    names = ", ".join(map(safe, queues))
    if not queues:
        click.echo("no such queues")
    elif dry_run:
        click.echo(f"would {verb} {counted(len(queues), 'queue')}: {names}")
    else:
        if everything:
            agree(f"{verb} {counted(len(queues), 'queue')}: {names}?", yes=yes)
        return True
    return False


def _each(act: Callable[[str], bool], queues: list[str], done: str, nothing_to_do: str) -> None:
    for queue in queues:
        click.echo(f"queue {safe(queue)}: {done if act(queue) else nothing_to_do}")
