"""asyncpg's connector, the fastest for workers."""

from __future__ import annotations

import contextlib
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import anyio
import asyncpg

from procrastinate_deps.connectors import asyncpg_driver as driver
from procrastinate_deps.connectors import callers, dsn
from procrastinate_deps.connectors.asyncpg_connect import connecting
from procrastinate_deps.connectors.asyncpg_kept import RELEASE_TIMEOUT_S, KeptConnections
from procrastinate_deps.connectors.base import POOL_MAX_SIZE, POOL_MIN_SIZE, AsyncConnector, Listener, limits
from procrastinate_deps.connectors.errors import (
    MAX_RETRIES,
    RETRYABLE,
    check_server_version,
    log_unprepared,
    retry_wait_s,
)
from procrastinate_deps.exceptions import AppNotOpen, ConnectorException
from procrastinate_deps.sql import DEFAULT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from procrastinate_deps.connectors.psycopg import SyncPsycopgConnector
    from procrastinate_deps.jsontext import JsonLoads
    from procrastinate_deps.statements import Row, Statement

T = TypeVar("T")

CLOSE_TIMEOUT_S = 1
"""How long a connection that listened may take to say goodbye."""

# options of asyncpg's create_pool that are the pool's; all others are each connection's
_POOL_OPTIONS = frozenset(
    {"max_queries", "max_inactive_connection_lifetime", "connect", "setup", "init", "reset", "loop", "connection_class"}
    | {"record_class", "min_size", "max_size"}
)
# those by which a user says what is done with a connection between two statements: then the pool has it there
_BETWEEN_STATEMENTS = frozenset({"setup", "reset", "max_queries", "max_inactive_connection_lifetime"})
_UNPREPARED = {"statement_cache_size": 0}
_LIBPQ_NAMES = {"database": "dbname", "timeout": "connect_timeout", "ssl": "sslmode"}
_LIBPQ = frozenset({"host", "port", "user", "password", "passfile", "dbname", "connect_timeout", "sslmode", "service"})


class AsyncpgConnector(AsyncConnector):
    """asyncpg: for workers, and for async code.

    Parameters
    ----------
    dsn:
        libpq's connection string, of either form. What it leaves out, the PG* variables say.
    schema:
        The PostgreSQL schema that the tables live in.
    json_dumps, json_loads:
        From a job's arguments or result to JSON and back.
    prepare_statements:
        False for a pooler that gives each transaction another session (PgBouncer in transaction mode). Default: True,
        unless there is a pooler.
    listen_dsn:
        Where to listen for notifications, in full: for where `dsn` leads to such a pooler. The options below go along,
        except for those that say where to connect. Default: as `dsn` and the options say.
    options:
        asyncpg's own for `create_pool` and `connect`: `min_size` (1), `max_size` (10), `password`, `ssl`, ...
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        json_dumps: Callable[[Any], str | bytes] | None = None,
        json_loads: JsonLoads | None = None,
        prepare_statements: bool | None = None,
        listen_dsn: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(schema=schema, json_dumps=json_dumps, json_loads=json_loads)
        self.set_listen_dsn(listen_dsn)
        self._dsn = dsn or ""
        self._prepare_statements = prepare_statements
        self._options = options
        self._pool: asyncpg.Pool[Any] | None = None
        self._owns_pool = False
        self._keeps = not _BETWEEN_STATEMENTS & options.keys()
        self._kept = KeptConnections()
        self._parameters()  # what can't be understood is refused here, where it was written

    def connection_parameters(self) -> dict[str, Any]:
        given = {
            _LIBPQ_NAMES.get(name, name): value for name, value in self._options.items() if name not in _POOL_OPTIONS
        }
        parameters: dict[str, Any] = {"fallback_application_name": dsn.APPLICATION_NAME, **self._parameters()}
        for name in _LIBPQ & given.keys():
            if not isinstance(given[name], (str, int, float)):
                raise ConnectorException(
                    f"AsyncpgConnector's {name}={type(given[name]).__name__} has no counterpart in libpq, which "
                    "migrations and sync code use; give it in the dsn, or make a SyncPsycopgConnector for those"
                )
            parameters[name] = given[name] if name != "connect_timeout" else math.ceil(given[name])
        parameters.update(
            {k: v for k, v in given.get("server_settings", {}).items() if k in ("application_name", "options")}
        )
        return parameters

    def __repr__(self) -> str:
        given = {name: value for name, value in self._options.items() if isinstance(value, (str, int, float))}
        shown = dsn.shown(self._parameters() | given)
        return f"AsyncpgConnector({shown}, schema={self.schema!r}{self.shown_listen_dsn})"

    async def open_async(self, pool: asyncpg.Pool[Any] | None = None) -> None:
        if self._pool is not None:
            return
        if pool is not None:
            self._pool = pool
            return
        pool_options = {name: value for name, value in self._options.items() if name in _POOL_OPTIONS}
        min_size = pool_options.pop("min_size", POOL_MIN_SIZE)
        max_size = pool_options.pop("max_size", max(POOL_MAX_SIZE, min_size))
        pool_options.setdefault("reset", _leave_as_it_is)
        arguments = self._connect_arguments(self._dsn, self._options)
        connect = pool_options["connect"] = self._connect(self._dsn, self._options)
        try:
            first = await connect(**arguments | _UNPREPARED)
            try:
                check_server_version(first.get_server_version().major)
                if not await self._may_prepare(first):
                    arguments |= _UNPREPARED
                    pool_options["init"] = self._knowing_arrays(pool_options.get("init"))
            finally:
                with anyio.CancelScope(shield=True):
                    await first.close(timeout=CLOSE_TIMEOUT_S)
            new_pool = asyncpg.create_pool(min_size=min_size, max_size=max_size, **pool_options, **arguments)
            await new_pool
        except driver.ERRORS as error:
            raise self._unreachable(error) from error
        self._pool, self._owns_pool = new_pool, True

    async def close_async(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._owns_pool:
            self._owns_pool = False
            await self._kept.give_back_all(pool)
            await pool.close()

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        if connection is not None:
            return await callers.execute_async(connection, statement, self._queries, self.json_loads)
        rows = await self._rows(self._queries[statement.name], statement.values, limits(statement))
        return statement.read(rows, self.json_loads)

    async def execute_script_async(self, script: str) -> None:
        pool = self._opened()
        try:
            # Not from the pool itself: all of its connections may be kept.
            connection = await self._kept.take(pool)
            try:
                await driver.run_script_async(connection, script)
            finally:
                with anyio.CancelScope(shield=True):
                    await pool.release(connection, timeout=RELEASE_TIMEOUT_S)
        except driver.ERRORS as error:
            raise driver.translated(error) from error

    async def renew_async(self) -> None:
        self._kept.end_all()
        if self._pool is not None:
            await self._pool.expire_connections()

    @asynccontextmanager
    async def listen(self, channel: str, listen_dsn: str | None = None) -> AsyncIterator[Listener]:
        where, options = listen_dsn or self.listen_dsn, self._options
        if where is None:
            where = self._dsn
        else:
            options = dsn.options_for(where, options, _LIBPQ_NAMES)
        try:
            connect = self._connect(where, options)
            connection = await connect(**self._connect_arguments(where, options) | _UNPREPARED)
        except driver.ERRORS as error:
            raise self._unreachable(error, where, options) from error
        listener = _AsyncpgListener(connection)
        try:
            await listener.start(channel)
            yield listener
        finally:
            await listener.aclose()

    def sync_twin(self) -> SyncPsycopgConnector:
        from procrastinate_deps.connectors.psycopg import SyncPsycopgConnector

        sizes = {name: value for name, value in self._options.items() if name in ("min_size", "max_size")}
        return SyncPsycopgConnector(
            conninfo=dsn.conninfo(self.connection_parameters()),
            schema=self.schema,
            prepare_statements=self._prepare_statements,
            listen_dsn=self.listen_dsn,
            **self._given_json,
            **sizes,
        )

    def _parameters(self) -> dict[str, str]:
        return dsn.parse(self._dsn)

    def _connect_arguments(self, where: str, options: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in options.items() if name not in _POOL_OPTIONS}
        arguments = dsn.asyncpg_arguments(where)
        arguments["server_settings"].update(given.pop("server_settings", {}))
        arguments.setdefault("timeout", dsn.CONNECT_TIMEOUT_S)
        if self._prepare_statements is False:
            arguments |= _UNPREPARED
        return arguments | given

    def _connect(self, where: str, options: Mapping[str, Any]) -> Callable[..., Awaitable[asyncpg.Connection[Any]]]:
        """What connects: a function of the user's, or ours."""
        if "connect" in options:
            return cast("Callable[..., Awaitable[asyncpg.Connection[Any]]]", options["connect"])
        parameters = dsn.parse(where)
        attributes = options.get("target_session_attrs") or parameters.get("target_session_attrs")
        # The one kind of search that has to look at all hosts before it decides.
        hosts = [] if attributes == "prefer-standby" else dsn.asyncpg_hosts(where, options)
        return connecting(hosts, dsn.socket_options(dsn.defaults(parameters) | parameters))

    def _knowing_arrays(self, init: Callable[[Any], Awaitable[None]] | None) -> Callable[[Any], Awaitable[None]]:
        """What is done first with each connection through a pooler.

        To learn of an array's type asyncpg changes a setting for a moment, in statements of their own: outside of a
        transaction each might meet another session, and the change would stay with somebody else.
        """

        async def learn(connection: asyncpg.Connection[Any]) -> None:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await driver.run_async(connection, self._queries["array_types"], ())
            finally:
                await transaction.rollback()
            if init is not None:
                await init(connection)

        return learn

    async def _may_prepare(self, connection: asyncpg.Connection[Any]) -> bool:
        if self._prepare_statements is not None:
            return self._prepare_statements
        [[pid]] = await driver.run_async(connection, self._queries["backend_pid"], ())
        if pid == connection.get_server_pid():
            return True
        log_unprepared()
        return False

    def _unreachable(
        self, error: BaseException, where: str | None = None, options: Mapping[str, Any] | None = None
    ) -> ConnectorException:
        parameters = self._parameters() if where is None else dsn.parse(where)
        given = self._options if options is None else options
        parameters |= {name: str(value) for name, value in given.items() if isinstance(value, (str, int, float))}
        reason = dsn.hide_secrets(str(driver.translated(error)), parameters)
        return ConnectorException(
            f"can't connect to PostgreSQL with {dsn.shown(parameters)}: {reason}", sqlstate=driver.sqlstate_of(error)
        )

    def _opened(self) -> asyncpg.Pool[Any]:
        if self._pool is None:
            raise AppNotOpen
        return self._pool

    async def _rows(self, query: str, values: Sequence[Any], within: str | None) -> Sequence[Row]:
        attempt = 0
        while True:
            pool = self._opened()
            try:
                connection = await self._kept.take(pool)
                generation = self._kept.generation
                try:
                    if within is None:
                        rows = await driver.run_async(connection, query, values)
                    else:
                        rows = await driver.run_within_async(connection, query, values, within)
                except BaseException:
                    # Without a limit a release waits for the confirmation of a cancellation: where the server is out of
                    # reach, for ever, and the pool has one connection less.
                    with anyio.CancelScope(shield=True), contextlib.suppress(*driver.ERRORS):
                        await pool.release(connection, timeout=RELEASE_TIMEOUT_S)
                    raise
                if not (self._keeps and self._owns_pool and self._kept.keep(connection, generation)):
                    await pool.release(connection)
                return rows
            except driver.ERRORS as error:
                if driver.sqlstate_of(error) not in RETRYABLE or attempt >= MAX_RETRIES:
                    raise driver.translated(error) from error
            await anyio.sleep(retry_wait_s(attempt))
            attempt += 1


async def _leave_as_it_is(connection: driver.AsyncConnection) -> None:
    """In the place of the reset that costs asyncpg a round trip: our statements leave nothing behind."""


class _AsyncpgListener(Listener):
    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        # unbounded: the driver's callback can't wait, and a payload is a few bytes
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)
        self._closed = False

    async def start(self, channel: str) -> None:
        self._connection.add_termination_listener(self._lost)
        try:
            await self._connection.add_listener(channel, self._notified)
        except driver.ERRORS as error:
            raise driver.translated(error) from error

    def _notified(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if not self._closed:
            self._send.send_nowait(str(payload))

    def _lost(self, connection: object) -> None:
        self._send.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            return await self._receive.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._closed:
                raise StopAsyncIteration from None
            raise ConnectorException("the connection that listens for notifications was lost") from None

    async def aclose(self) -> None:
        self._closed = True
        self._send.close()
        self._receive.close()
        # Whoever stops listening may be cancelled: the connection is closed all the same. Where nobody answers, or
        # nobody is left, it is cut.
        with anyio.CancelScope(shield=True), contextlib.suppress(*driver.ERRORS):
            await self._connection.close(timeout=CLOSE_TIMEOUT_S)
