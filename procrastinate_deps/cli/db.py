"""`db`: the embedded server."""

from __future__ import annotations

import signal
import subprocess

import click

from procrastinate_deps import embedded
from procrastinate_deps.cli.program import Command
from procrastinate_deps.exceptions import EmbeddedServerError


@click.group(epilog="\b\nExamples:\n  procrastinate-deps db start\n  procrastinate-deps db psql -c 'SELECT 1'")
def db() -> None:
    """The embedded PostgreSQL: for trying, developing and testing."""


@db.command(cls=Command)
def start() -> None:
    """Start the server unless it runs, keep it running until `db stop`, and print its URL."""
    click.echo(embedded.start())


@db.command(cls=Command)
@click.option("--force", is_flag=True, help="Even when other processes use it.")
def stop(force: bool) -> None:
    """Stop the server."""
    if embedded.stop(force=force):
        click.echo("the embedded server is stopped")
    else:
        click.echo("the embedded server is in use, and stops when its last user ends; --force stops it now")


@db.command(cls=Command)
def url() -> None:
    """Print the server's URL; status 1 when it doesn't run."""
    address = embedded.url()
    if address is None:
        raise EmbeddedServerError("the embedded server doesn't run: python -m procrastinate_deps db start")
    click.echo(address)


@db.command(cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def psql(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Open psql on the server, which runs meanwhile. What follows is psql's."""
    with embedded.EmbeddedServer():
        process = subprocess.Popen(embedded.psql_command(*arguments))
        # Ctrl-C is psql's own: there it ends a query, not the session
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            status = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    ctx.exit(status)
