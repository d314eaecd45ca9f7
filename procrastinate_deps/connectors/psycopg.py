"""psycopg's connectors: async for workers and async code, sync for the rest."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from time import sleep
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import psycopg
from psycopg import sql as composed
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from procrastinate_deps.connectors import callers, dsn
from procrastinate_deps.connectors import psycopg_driver as driver
from procrastinate_deps.connectors.base import (
    POOL_MAX_SIZE,
    POOL_MIN_SIZE,
    AsyncConnector,
    Connector,
    Listener,
    SyncConnector,
    SyncListener,
    limits,
)
from procrastinate_deps.connectors.errors import (
    MAX_RETRIES,
    RETRYABLE,
    check_server_version,
    log_unprepared,
    retry_wait_s,
)
from procrastinate_deps.connectors.psycopg_listener import SyncPsycopgListener
from procrastinate_deps.exceptions import AppNotOpen
from procrastinate_deps.sql import DEFAULT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from procrastinate_deps.jsontext import JsonLoads
    from procrastinate_deps.statements import Row, Statement

T = TypeVar("T")

# arguments of psycopg's connect that are not libpq's
_NOT_LIBPQ = frozenset(
    {"autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory", "connection_class"}
)


_UNPREPARED = {"prepare_threshold": None}

RECONNECT_TIMEOUT_S = 10.0
"""After that long a pool begins anew with its attempts to connect: the waits between them double each time."""


def _libpqs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in _NOT_LIBPQ}


class _PsycopgConnector(Connector):
    """What both of psycopg's connectors are made from.

    Parameters
    ----------
    conninfo:
        libpq's connection string, of either form. What it leaves out, the PG* variables and libpq's defaults say.
    schema:
        The PostgreSQL schema that the tables live in.
    json_dumps, json_loads:
        From a job's arguments or result to JSON and back.
    pool_factory:
        What makes the pool. Default: psycopg's own.
    prepare_statements:
        False for a pooler that gives each transaction another session (PgBouncer in transaction mode). Default: True,
        unless there is a pooler.
    listen_dsn:
        Where to listen for notifications, in full: for where `conninfo` leads to a pooler that gives each transaction
        another session. The options in `kwargs` go along, except for those that say where to connect. Default: as
        `conninfo` and `kwargs` say.
    pool_kwargs:
        The pool's own options: `min_size` (1), `max_size` (10), `timeout`, ...; `kwargs` are those of each connection.
    """

    def __init__(
        self,
        *,
        conninfo: str = "",
        schema: str = DEFAULT_SCHEMA,
        json_dumps: Callable[[Any], str | bytes] | None = None,
        json_loads: JsonLoads | None = None,
        pool_factory: Callable[..., Any] | None = None,
        prepare_statements: bool | None = None,
        listen_dsn: str | None = None,
        **pool_kwargs: Any,
    ) -> None:
        if "dsn" in pool_kwargs:
            raise TypeError(f"{type(self).__name__} has no dsn=: pass the connection string as conninfo=")
        super().__init__(schema=schema, json_dumps=json_dumps, json_loads=json_loads)
        self.set_listen_dsn(listen_dsn)
        self._parameters = dsn.parse(conninfo)
        self._conninfo = conninfo
        self._prepare_statements = prepare_statements
        self._pool_factory = pool_factory
        self._given_pool_kwargs = dict(pool_kwargs)
        self._connect_kwargs: dict[str, Any] = {
            "fallback_application_name": dsn.APPLICATION_NAME,
            "context": driver.adapters(),
            **dsn.defaults(self._parameters),
            **pool_kwargs.pop("kwargs", {}),
            "autocommit": True,
        }
        if prepare_statements is False:
            self._connect_kwargs |= _UNPREPARED
        if pool_factory is None:  # another pool may have other options
            min_size = pool_kwargs.setdefault("min_size", POOL_MIN_SIZE)
            pool_kwargs.setdefault("max_size", max(POOL_MAX_SIZE, min_size))
            pool_kwargs.setdefault("reconnect_timeout", RECONNECT_TIMEOUT_S)
        self._pool_kwargs = pool_kwargs

    def connection_parameters(self) -> dict[str, Any]:
        return self._parameters | _libpqs(self._connect_kwargs)

    def __repr__(self) -> str:
        shown = dsn.shown(self.connection_parameters())
        return f"{type(self).__name__}({shown}, schema={self.schema!r}{self.shown_listen_dsn})"

    def _new_pool(self, factory: Callable[..., Any], *, prepare: bool, **callbacks: Callable[..., Any]) -> Any:
        kwargs = self._connect_kwargs if prepare else self._connect_kwargs | _UNPREPARED
        options = {**callbacks, **self._pool_kwargs}
        return (self._pool_factory or factory)(self._conninfo, kwargs=kwargs, open=False, **options)

    def _may_prepare(self, connection: driver.SyncConnection | driver.AsyncConnection, pid: int) -> bool:
        """Whether to leave it to psycopg: the backend that answers is the one that this connection was made to."""
        asked = self._prepare_statements is None and "prepare_threshold" not in self._connect_kwargs
        if asked and pid != connection.info.backend_pid:
            log_unprepared()
            return False
        return True

    def _where_to_listen(self, listen_dsn: str | None) -> tuple[str, dict[str, Any]]:
        if listen_dsn is None:
            return self._conninfo, self._connect_kwargs
        return listen_dsn, dsn.options_for(listen_dsn, self._connect_kwargs, {})

    def _use(self, pool: Any) -> None:
        """Take an external pool's settings as ours, for migrations and a sync twin."""
        if isinstance(pool.conninfo, str):
            self._conninfo, self._parameters = pool.conninfo, dsn.parse(pool.conninfo)
        if isinstance(pool.kwargs, dict):
            self._connect_kwargs = {**self._connect_kwargs, **pool.kwargs, "autocommit": True}


class PsycopgConnector(_PsycopgConnector, AsyncConnector):
    """psycopg, async: for workers, and for async code. The parameters are those of both of psycopg's connectors."""

    _pool: AsyncConnectionPool[Any] | None = None
    _owns_pool = False

    async def open_async(self, pool: AsyncConnectionPool[Any] | None = None) -> None:
        if self._pool is not None:
            return
        if pool is not None:
            self._pool = pool
            self._use(pool)
            return
        try:
            # A pool would go on trying for its whole timeout; the first connection says at once what is wrong.
            async with await self._connect() as first:
                check_server_version(first.info.server_version // 10000)
                [[pid]] = await driver.run_async(first, self._queries["backend_pid"], ())
                prepare = self._may_prepare(first, pid)
            new_pool = self._new_pool(
                AsyncConnectionPool, prepare=prepare, check=self._check, reconnect_failed=_go_on_async
            )
            try:
                await new_pool.open(wait=True)
            except BaseException:
                await new_pool.close()
                raise
        except psycopg.Error as error:
            raise driver.unreachable(error, self.connection_parameters()) from error
        self._pool, self._owns_pool = new_pool, True

    async def close_async(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._owns_pool:
            self._owns_pool = False
            await pool.close()

    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        if connection is not None:
            return await callers.execute_async(connection, statement, self._queries, self.json_loads)
        rows = await self._rows(self._queries[statement.name], statement.values, limits(statement))
        return statement.read(rows, self.json_loads)

    async def execute_script_async(self, script: str) -> None:
        try:
            async with self._opened().connection() as connection:
                await driver.run_script_async(connection, script)
        except psycopg.Error as error:
            raise driver.translated(error) from error

    async def renew_async(self) -> None:
        if self._pool is not None:
            await self._pool.drain()

    @asynccontextmanager
    async def listen(self, channel: str, listen_dsn: str | None = None) -> AsyncIterator[Listener]:
        where, kwargs = self._where_to_listen(listen_dsn or self.listen_dsn)
        try:
            connection = await psycopg.AsyncConnection.connect(where, **kwargs)
        except psycopg.Error as error:
            raise driver.unreachable(error, dsn.parse(where) | _libpqs(kwargs)) from error
        listener = _PsycopgListener(connection)
        try:
            await listener.start(channel)
            yield listener
        finally:
            await listener.aclose()

    def sync_twin(self) -> SyncPsycopgConnector:
        kwargs = {name: value for name, value in self._given_pool_kwargs.items() if name not in _ASYNC_CALLBACKS}
        return SyncPsycopgConnector(
            conninfo=self._conninfo,
            schema=self.schema,
            prepare_statements=self._prepare_statements,
            listen_dsn=self.listen_dsn,
            **self._given_json,
            **{**kwargs, "kwargs": self._connect_kwargs},
        )

    def _opened(self) -> AsyncConnectionPool[Any]:
        if self._pool is None:
            raise AppNotOpen
        return self._pool

    async def _check(self, connection: driver.AsyncConnection) -> None:
        try:
            await driver.check_idle_async(connection)
        except psycopg.Error:
            # The others have most likely died with it. The pool would find that out one by one, and wait between them
            # twice as long each time.
            await self.renew_async()
            raise

    async def _connect(self) -> driver.AsyncConnection:
        return await psycopg.AsyncConnection.connect(self._conninfo, **self._connect_kwargs)

    async def _rows(self, query: str, values: Sequence[Any], within: str | None) -> Sequence[Row]:
        pool = self._opened()
        attempt = 0
        while True:
            try:
                async with pool.connection() as connection:
                    if within is not None:
                        return await driver.run_within_async(connection, query, values, within)
                    return await driver.run_async(connection, query, values)
            except psycopg.Error as error:
                if error.sqlstate not in RETRYABLE or attempt >= MAX_RETRIES:
                    raise driver.translated(error) from error
            await anyio.sleep(retry_wait_s(attempt))
            attempt += 1


class SyncPsycopgConnector(_PsycopgConnector, SyncConnector):
    """psycopg, sync: to defer and manage jobs from code that is not async, and to wait for them."""

    _pool: ConnectionPool[Any] | None = None
    _owns_pool = False

    def open(self, pool: ConnectionPool[Any] | None = None) -> None:
        if self._pool is not None:
            return
        if pool is not None:
            self._pool = pool
            self._use(pool)
            return
        try:
            # A pool would go on trying for its whole timeout; the first connection says at once what is wrong.
            with psycopg.connect(self._conninfo, **self._connect_kwargs) as first:
                check_server_version(first.info.server_version // 10000)
                [[pid]] = driver.run(first, self._queries["backend_pid"], ())
                prepare = self._may_prepare(first, pid)
            new_pool = self._new_pool(ConnectionPool, prepare=prepare, check=self._check, reconnect_failed=_go_on)
            try:
                new_pool.open(wait=True)
            except BaseException:
                new_pool.close()
                raise
        except psycopg.Error as error:
            raise driver.unreachable(error, self.connection_parameters()) from error
        self._pool, self._owns_pool = new_pool, True

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._owns_pool:
            self._owns_pool = False
            pool.close()

    def execute(self, statement: Statement[T], connection: Any = None) -> T:
        if connection is not None:
            return callers.execute(connection, statement, self._queries, self.json_loads)
        rows = self._rows(self._queries[statement.name], statement.values, limits(statement))
        return statement.read(rows, self.json_loads)

    def execute_script(self, script: str) -> None:
        try:
            with self._opened().connection() as connection:
                driver.run_script(connection, script)
        except psycopg.Error as error:
            raise driver.translated(error) from error

    def listen(self, channel: str) -> SyncListener:
        where, kwargs = self._where_to_listen(self.listen_dsn)
        try:
            connection = psycopg.connect(where, **kwargs)
        except psycopg.Error as error:
            raise driver.unreachable(error, dsn.parse(where) | _libpqs(kwargs)) from error
        return SyncPsycopgListener(connection, channel)

    def _check(self, connection: driver.SyncConnection) -> None:
        try:
            driver.check_idle(connection)
        except psycopg.Error:
            # As in the async one.
            if self._pool is not None:
                self._pool.drain()
            raise

    def _opened(self) -> ConnectionPool[Any]:
        if self._pool is None:
            raise AppNotOpen
        return self._pool

    def _rows(self, query: str, values: Sequence[Any], within: str | None) -> Sequence[Row]:
        pool = self._opened()
        attempt = 0
        while True:
            try:
                with pool.connection() as connection:
                    if within is not None:
                        return driver.run_within(connection, query, values, within)
                    return driver.run(connection, query, values)
            except psycopg.Error as error:
                if error.sqlstate not in RETRYABLE or attempt >= MAX_RETRIES:
                    raise driver.translated(error) from error
            sleep(retry_wait_s(attempt))
            attempt += 1


def _go_on(pool: ConnectionPool[Any]) -> None:
    """Begin anew where the pool gave up: who waits for a connection gets one as soon as there is a server."""
    pool.drain()
    pool.check()


async def _go_on_async(pool: AsyncConnectionPool[Any]) -> None:
    """Begin anew where the pool gave up: who waits for a connection gets one as soon as there is a server."""
    await pool.drain()
    # Of connections that are open there are none any more; this makes the pool grow.
    await pool.check()


# options of a pool that are coroutine functions of an async one
_ASYNC_CALLBACKS = frozenset({"configure", "check", "reset", "reconnect_failed", "connection_class"})


class _PsycopgListener(Listener):
    def __init__(self, connection: driver.AsyncConnection) -> None:
        self._connection = connection
        self._arrived: deque[str] = deque()
        self._closed = False
        self._scope = anyio.CancelScope()

    async def start(self, channel: str) -> None:
        try:
            await self._connection.execute(
                composed.SQL("LISTEN {}").format(composed.Identifier(channel)), prepare=False
            )
        except psycopg.Error as error:
            raise driver.translated(error) from error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        # Each wait is one generator run to its end: one that is left half-way would keep the connection locked.
        while not self._arrived and not self._closed:
            with anyio.CancelScope() as self._scope:
                try:
                    async for notification in self._connection.notifies(stop_after=1):
                        self._arrived.append(notification.payload)
                except psycopg.Error as error:
                    raise driver.translated(error) from error
        if self._closed:
            raise StopAsyncIteration
        return self._arrived.popleft()

    async def aclose(self) -> None:
        self._closed = True
        self._scope.cancel()  # closing the socket alone would not wake who waits on it
        await self._connection.close()
