"""`check`: every invariant, counted against the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli.output import format_option, print_json
from procrastinate_deps.cli.program import Command

if TYPE_CHECKING:
    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.invariants import Repair, Violation


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps check\n"
    "  procrastinate-deps check --repair\n"
    "  procrastinate-deps check --format json",
)
@click.option("--repair", is_flag=True, help="Mend what is broken, while everything goes on.")
@format_option
@click.pass_context
def check(ctx: click.Context, repair: bool, output_format: str) -> None:
    """Count every invariant against the tables; nothing has to be stopped for it.

    The exit status is 0 when all of them hold (with --repair: by then), else 1.
    """
    settings: Settings = ctx.obj
    repaired: list[Repair] = []
    with settings.database().open() as app:
        found = app.job_manager.check()
        left = found
        if repair and found:
            repaired = app.job_manager.repair()
            left = app.job_manager.check()
    if output_format == "json":
        print_json({"violations": found, "repaired": repaired, "left": left})
    else:
        for each in found:
            click.echo(f"broken: {_line(each)}")
        for mended in repaired:
            click.echo(f"repaired: {_line(mended)}")
        if repair:
            for each in left:
                click.echo(f"still broken: {_line(each)}")
        click.echo(_verdict(found, left))
    if left:
        ctx.exit(1)


def _line(each: Violation | Repair) -> str:
    more = ", ..." if each.jobs > len(each.examples) else ""
    return f"{each.invariant}: {each.jobs} ({', '.join(map(str, each.examples))}{more})"


def _verdict(found: list[Violation], left: list[Violation]) -> str:
    if not found:
        return "every invariant holds"
    if not left:
        return "every invariant holds now"
    return f"{len(left)} invariant(s) broken"
