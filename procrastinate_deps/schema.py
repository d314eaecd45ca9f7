"""The database's schema and its migrations: Alembic does the work, in one transaction, under an advisory lock."""

from __future__ import annotations

import io
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from procrastinate_deps import statements
from procrastinate_deps.exceptions import (
    MIGRATE_COMMAND,
    ConnectorException,
    SchemaNotReady,
    SyncConnectorConfigurationError,
)
from procrastinate_deps.sql import find_folder, qualify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from alembic.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from procrastinate_deps.connectors.base import AsyncConnector, SyncConnector

VERSION_TABLE = "alembic_version"
"""Stands in the project's own schema, beside its tables."""

_REVISION_FILE = re.compile(r"(\d{4})_(\w+)\.py")

# Alembic keeps what a migration is about in its module: two at once in one process would mix.
_alembic = threading.Lock()


@dataclass(frozen=True, slots=True)
class Revision:
    """One migration: its id, and what it does."""

    id: str
    description: str


class SchemaManager:
    """Brings the schema of a connector's database to the version that this program needs, and says whether it is there.

    The migrating methods open a connection of their own, with the connector's settings: the connector needn't be open.
    """

    def __init__(self, connector: AsyncConnector | SyncConnector) -> None:
        self._connector = connector

    def apply(self, revision: str = "head") -> None:
        """Migrate, to the newest version unless told. Harmless when it is there already, and when others do it too."""
        with self._connected() as connection:
            _run("upgrade", revision, schema=self._connector.schema, connection=connection)

    async def apply_async(self, revision: str = "head") -> None:
        """The same as `apply`, for async code."""
        await anyio.to_thread.run_sync(self.apply, revision)

    def downgrade(self, revision: str) -> None:
        """Go back to an older version; "base" drops everything that the migrations made, and every job with it."""
        with self._connected() as connection:
            _run("downgrade", revision, schema=self._connector.schema, connection=connection)

    async def downgrade_async(self, revision: str) -> None:
        """The same as `downgrade`, for async code."""
        await anyio.to_thread.run_sync(self.downgrade, revision)

    def sql(self, revision: str = "head") -> str:
        """What `apply` would do to an empty database, as a script for psql."""
        output = io.StringIO()
        _run("upgrade", revision, schema=self._connector.schema, output=output)
        return output.getvalue()

    def current(self) -> str | None:
        """The revision that the database is at; None: the schema isn't there."""
        from alembic.migration import MigrationContext

        with self._connected() as connection:
            options = {"version_table": VERSION_TABLE, "version_table_schema": self._connector.schema}
            revision: str | None = MigrationContext.configure(connection, opts=options).get_current_revision()
            return revision

    async def current_async(self) -> str | None:
        """The same as `current`, for async code."""
        return await anyio.to_thread.run_sync(self.current)

    def head(self) -> str:
        """The revision that this program needs."""
        return self.history()[-1].id

    def history(self) -> list[Revision]:
        """All migrations, oldest first."""
        # read off the files' names: a worker that starts needn't load Alembic to know them
        files = sorted((find_folder("_migrations", "migrations") / "versions").glob("*.py"))
        found = [match for file in files if (match := _REVISION_FILE.fullmatch(file.name))]
        return [Revision(match[1], match[2].replace("_", " ")) for match in found]

    def check(self) -> None:
        """Raise SchemaNotReady unless the database is at the revision that this program needs."""
        self._judge(self.current())

    async def check_async(self) -> None:
        """The same as `check`, by the connector itself, which is open, and async."""
        if not hasattr(self._connector, "execute_async"):
            raise SyncConnectorConfigurationError(f"{type(self._connector).__name__} is sync: call check()")
        try:
            revision = await self._connector.execute_async(statements.schema_revision())
        except SchemaNotReady:
            revision = None
        self._judge(revision)

    def _judge(self, revision: str | None) -> None:
        head, schema = self.head(), self._connector.schema
        if revision == head:
            return
        if revision is None:
            raise SchemaNotReady(
                f"the database has no schema {schema!r} with this program's tables. Run: {MIGRATE_COMMAND}"
            )
        if revision in [known.id for known in self.history()]:
            raise SchemaNotReady(
                f"the schema {schema!r} is at revision {revision}, older than {head}, which this program needs. "
                f"Run: {MIGRATE_COMMAND}"
            )
        raise SchemaNotReady(
            f"the schema {schema!r} is at revision {revision}, which is newer than this program ({head}). Upgrade "
            f"procrastinate_deps here, then run: {MIGRATE_COMMAND}"
        )

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        from sqlalchemy import create_engine, pool
        from sqlalchemy.exc import DBAPIError

        engine = create_engine("postgresql+psycopg://", creator=self._connector.connect_sync, poolclass=pool.NullPool)
        try:
            with engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise ConnectorException(f"the migration failed, and nothing of it was kept: {error.orig}") from error


def execute_script(context: MigrationContext, script: str) -> None:
    """Run plain SQL in a migration, or print it: never as SQLAlchemy's text, which would take colons for parameters."""
    if context.as_sql:
        context.impl.static_output(script.strip().removesuffix(";") + ";")
    elif context.connection is not None:
        context.connection.execution_options(no_parameters=True).exec_driver_sql(script)


def execute_file(context: MigrationContext, file: Path) -> None:
    """Run a migration's SQL file, written like those in sql/, for the schema that is migrated."""
    if context.config is None:
        raise SchemaNotReady("migrations run by `procrastinate_deps.schema` only")
    execute_script(context, qualify(file.read_text("utf-8"), context.config.attributes["schema"]))


def _run(
    direction: str,
    revision: str,
    *,
    schema: str,
    connection: Connection | None = None,
    output: io.StringIO | None = None,
) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    # "%" would be an interpolation to the parser behind the configuration
    folder = str(find_folder("_migrations", "migrations")).replace("%", "%%")
    config = Config(output_buffer=output, stdout=io.StringIO())
    config.set_main_option("script_location", folder)
    config.attributes.update(schema=schema, connection=connection, version_table=VERSION_TABLE)
    move: Callable[..., None] = getattr(command, direction)
    with _alembic:
        try:
            move(config, revision, sql=connection is None)
        except CommandError as error:
            raise SchemaNotReady(f"the migration to {revision!r} can't be done: {error}") from error
