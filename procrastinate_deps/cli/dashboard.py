"""`dashboard`: a web page on the jobs."""

from __future__ import annotations

import ipaddress

import click

from procrastinate_deps.cli.program import Command, Failure
from procrastinate_deps.cli.settings import Settings

PORT = 8000
CLOSE_WITHIN_S = 5
"""How long a dashboard that is stopped waits for answers that are under way."""


@click.command(
    cls=Command,
    log_level="info",
    epilog="\b\nExamples:\n"
    "  procrastinate-deps dashboard\n"
    "  procrastinate-deps dashboard --allow-actions --port 8080\n"
    "  PROCRASTINATE_DEPS_DASHBOARD_PASSWORD=... procrastinate-deps dashboard --host 0.0.0.0\n"
    "  procrastinate-deps dashboard --hide 'password' --hide '*token*'",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("-p", "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any free one.")
@click.option(
    "--password",
    metavar="TEXT",
    help="What whoever comes must know; needed for any address that others can reach. On the command line other users "
    "of this machine can read it: prefer the environment variable.",
)
@click.option("--allow-actions", is_flag=True, help="Let jobs, queues and workflows be changed; else it only shows.")
@click.option(
    "--hide",
    metavar="PATTERN",
    multiple=True,
    help="Hide arguments named so, as '*token*'; can be given several times.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="A name that it may be reached by; can be given several times.  [default: any with a password, else this "
    "machine's own]",
)
@click.option("--title", default="procrastinate_deps", show_default=True, help="What the pages are called.")
@click.pass_obj
def dashboard(
    settings: Settings,
    host: str,
    port: int,
    password: str | None,
    allow_actions: bool,
    hide: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    title: str,
) -> None:
    """Show jobs, workflows, queues and workers as web pages, until SIGINT (Ctrl-C) or SIGTERM."""
    if not password and not _is_loopback(host):
        raise click.UsageError(
            f"--host {host} can be reached by others: give a password, best by PROCRASTINATE_DEPS_DASHBOARD_PASSWORD"
        )
    try:
        from procrastinate_deps.cli.server import serve
        from procrastinate_deps.dashboard import create_dashboard
    except ImportError as error:
        raise Failure(
            f"the dashboard needs the extra [dashboard], pip install 'procrastinate-deps[dashboard]': {error}"
        ) from error
    app = create_dashboard(
        settings.database(),
        password=password or None,
        actions=allow_actions,
        hide=hide,
        allowed_hosts=allowed_hosts or None,
        title=title,
    )
    serve(app, host, port, CLOSE_WITHIN_S)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
