"""`migrate`, `schema`, `healthchecks`: is the database ready for this program?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.output import format_option, print_json, print_rows
from procrastinate_deps.cli.program import Command, one_line
from procrastinate_deps.connectors import dsn
from procrastinate_deps.exceptions import MissingApp, ProcrastinateException, SchemaNotReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.app import App
    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.schema import SchemaManager


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps migrate\n"
    "  procrastinate-deps migrate --current\n"
    "  procrastinate-deps migrate --sql > schema.sql\n"
    "  procrastinate-deps migrate --downgrade base",
)
@click.argument("revision", required=False)
@click.option("--current", is_flag=True, help="Print the revision that the database is at, and change nothing.")
@click.option("--history", is_flag=True, help="List all revisions, oldest first, and change nothing.")
@click.option("--sql", is_flag=True, help="Print what would be done to an empty database, for psql.")
@click.option("--downgrade", is_flag=True, help='Go back to REVISION. "base" drops all tables, with every job in them.')
@format_option
@click.pass_obj
def migrate(
    settings: Settings,
    revision: str | None,
    current: bool,
    history: bool,
    sql: bool,
    downgrade: bool,
    output_format: str,
) -> None:
    """Bring the database's schema to REVISION, by default the newest. Harmless when it is there already."""
    if current + history + sql + downgrade > 1:
        raise click.UsageError("--current, --history, --sql and --downgrade: give only one of them")
    if revision and (current or history):
        raise click.UsageError("--current and --history take no revision")
    if downgrade and not revision:
        raise click.UsageError('--downgrade needs the revision to go back to; "base" drops everything')
    app = settings.database()
    if sql:
        click.echo(app.schema_manager.sql(revision or "head"))
        return
    if history:
        _print_history(app.schema_manager, output_format)
        return
    with app.open():
        manager = app.schema_manager
        if current:
            _print_current(manager, output_format)
        elif downgrade and revision:
            before = manager.current()
            manager.downgrade(revision)
            _say(app, before, manager.current())
        else:
            _upgrade(app, revision or "head")


def _upgrade(app: App, revision: str) -> None:
    manager, schema = app.schema_manager, app.connector.schema
    before = manager.current()
    known = [each.id for each in manager.history()]
    if before is not None and before not in known:
        manager.check()  # says that the database is newer than this program
    if revision == "base" or (before in known and revision in known[: known.index(before)]):
        raise SchemaNotReady(f"the schema {schema} is at {_named(before)}: going back to {revision} takes --downgrade")
    manager.apply(revision)
    _say(app, before, manager.current())


def _say(app: App, before: str | None, after: str | None) -> None:
    if after == before:
        click.echo(f"the schema {app.connector.schema} is at {_named(after)} already")
    else:
        click.echo(f"the schema {app.connector.schema} was migrated from {_named(before)} to {_named(after)}")


def _named(revision: str | None) -> str:
    return "nothing" if revision is None else f"revision {revision}"


def _print_current(manager: SchemaManager, output_format: str) -> None:
    revision = manager.current()
    if output_format == "json":
        print_json({"current": revision, "head": manager.head()})
    else:
        click.echo(revision or "none")


def _print_history(manager: SchemaManager, output_format: str) -> None:
    columns: dict[str, Callable[[Any], Any]] = {
        "revision": lambda row: row.id,
        "description": lambda row: row.description,
    }
    print_rows(manager.history(), columns, output_format, nothing="no revisions")


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  procrastinate-deps schema --apply\n  procrastinate-deps schema --read | psql mydatabase",
)
@click.option("--apply", "action", flag_value="apply", help="Migrate the database to the newest revision.")
@click.option("--read", "action", flag_value="read", help="Print the whole schema as SQL.")
@click.pass_obj
def schema(settings: Settings, action: str | None) -> None:
    """Apply the schema, as `migrate` does, or print it, as `migrate --sql` does."""
    if action is None:
        raise click.UsageError("give --apply or --read")
    app = settings.database()
    if action == "read":
        click.echo(app.schema_manager.sql())
        return
    with app.open():
        _upgrade(app, "head")


class _Checks:
    def __init__(self) -> None:
        self.results: list[dict[str, Any]] = []

    def run(self, name: str, check: Callable[[], str]) -> bool:
        try:
            ok, detail = True, check()
        except ProcrastinateException as error:
            ok, detail = False, one_line(error)
        self.results.append({"check": name, "ok": ok, "detail": detail})
        return ok


@click.command(cls=Command, epilog="\b\nExample:\n  procrastinate-deps healthchecks --app shop.app")
@format_option
@click.pass_context
def healthchecks(ctx: click.Context, output_format: str) -> None:
    """Check that the app is found, that the database answers, and that its schema is the right one."""
    checks = _Checks()
    app = _checked_app(ctx.obj, checks)
    try:
        if checks.run("connection", lambda: _connect(app)):
            checks.run("schema", lambda: _check_schema(app))
        else:
            checks.results.append({"check": "schema", "ok": False, "detail": "not checked: there is no connection"})
    finally:
        app.close()
    if output_format == "json":
        print_json(checks.results)
    else:
        for result in checks.results:
            click.echo(f"{result['check']}: {'ok' if result['ok'] else 'FAILED'}, {result['detail']}")
    if not all(result["ok"] for result in checks.results):
        ctx.exit(1)


def _checked_app(settings: Settings, checks: _Checks) -> App:
    """The named app; where there is none, or it is broken, the environment's database can still be checked."""
    found: list[App] = []

    def check() -> str:
        named = settings.named_app()
        app = settings.app()
        if named is None:  # app() has said so
            raise MissingApp
        found.append(app)
        app.perform_import_paths()
        return f"{named.path} (from {named.source}), {len(app.tasks)} tasks"

    checks.run("app", check)
    return found[0] if found else settings.taskless_app()


def _connect(app: App) -> str:
    app.open()
    app.check_connection()
    return dsn.shown(app.connector.connection_parameters()) or "libpq's defaults"


def _check_schema(app: App) -> str:
    app.schema_manager.check()
    return f"{app.connector.schema} is at revision {app.schema_manager.head()}"
