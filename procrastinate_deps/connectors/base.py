"""What every connector can do: run a statement, on a connection of its own or on the caller's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self, TypeVar

from procrastinate_deps import sql
from procrastinate_deps.connectors import dsn
from procrastinate_deps.jsontext import JsonDumps, JsonLoads, decode, dumps_text, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    import psycopg

    from procrastinate_deps.statements import Statement

T = TypeVar("T")

LISTEN_DSN_VARIABLE = "PROCRASTINATE_DEPS_LISTEN_DSN"
"""Where `App()` and the command line's worker listen for notifications."""

# Plans made for any value would not use the indexes that an optional filter has.
_LIMITS = "SET LOCAL statement_timeout = {:d}; SET LOCAL plan_cache_mode = force_custom_plan"

POOL_MIN_SIZE = 1
POOL_MAX_SIZE = 10


def limits(statement: Statement[Any]) -> str | None:
    """What is set in a transaction around a statement with a timeout; a pooler lets it pass, and it ends with it."""
    if statement.timeout_s is None:
        return None
    settings = _LIMITS.format(max(1, round(statement.timeout_s * 1000)))
    return f"SET TRANSACTION READ ONLY; {settings}" if statement.read_only else settings


class Connector(ABC):
    """The settings that sync and async connectors share.

    Parameters
    ----------
    schema:
        The PostgreSQL schema that the tables live in.
    json_dumps:
        From a job's arguments or result to JSON, as str or bytes.
    json_loads:
        From JSON text back.
    """

    def __init__(
        self,
        *,
        schema: str = sql.DEFAULT_SCHEMA,
        json_dumps: Callable[[Any], str | bytes] | None = None,
        json_loads: JsonLoads | None = None,
    ) -> None:
        self.schema = sql.check_schema_name(schema)
        self.json_dumps: JsonDumps = encode if json_dumps is None else dumps_text(json_dumps)
        self.json_loads: JsonLoads = decode if json_loads is None else json_loads
        self._given_json = {"json_dumps": json_dumps, "json_loads": json_loads}
        self._queries = sql.queries(schema)

    listen_dsn: str | None = None
    """Where it listens for notifications, if not where its statements go."""

    def set_listen_dsn(self, listen_dsn: str | None) -> None:
        """Raises ValueError, which doesn't show the string, where it can't be understood."""
        dsn.parse(listen_dsn or "")
        self.listen_dsn = listen_dsn or None

    @property
    def shown_listen_dsn(self) -> str:
        """As a part of the connector's repr."""
        return "" if self.listen_dsn is None else f", listen_dsn={dsn.shown(dsn.parse(self.listen_dsn))!r}"

    @abstractmethod
    def connection_parameters(self) -> dict[str, Any]:
        """The libpq parameters that this connects with, secrets included: for migrations, and for a sync twin."""

    def connect_sync(self) -> psycopg.Connection[Any]:
        """A new connection of psycopg's, not in autocommit: migrations run on it. Whoever asked for it closes it."""
        from procrastinate_deps.connectors import psycopg_driver

        # A pooler may stand between: what one session has prepared, another one doesn't know.
        return psycopg_driver.connect(self.connection_parameters(), prepare_threshold=None)


class Listener(ABC):
    """The payloads of one channel's notifications, as an async iterator. It ends when it is closed.

    Iterating raises ConnectorException when the connection dies.
    """

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[str]: ...

    @abstractmethod
    async def aclose(self) -> None: ...


class SyncListener(ABC):
    """The payloads of one channel's notifications, for one thread at a time."""

    @abstractmethod
    def wait(self, timeout_s: float | None) -> list[str]:
        """Those that have arrived, or that arrive first; none when the time is over, or somebody called `wake`.

        Raises ConnectorException when the connection is lost.
        """

    @abstractmethod
    def wake(self) -> None:
        """Let `wait` return, now or when it is called next. For other threads."""

    @abstractmethod
    def close(self) -> None: ...


class AsyncConnector(Connector):
    """A connector that a worker can use, too."""

    @abstractmethod
    async def open_async(self, pool: Any = None) -> None:
        """Connect. A `pool` of the driver's own kind, open already, is used, and not closed by `close_async`."""

    @abstractmethod
    async def close_async(self) -> None:
        """Give the connections back. Harmless when it isn't open."""

    @abstractmethod
    async def execute_async(self, statement: Statement[T], connection: Any = None) -> T:
        """Run a statement, in one round trip, and return what it reads.

        With a `connection` (psycopg's or asyncpg's, async) it becomes part of that connection's transaction, which is
        never committed here. Else it is sent again when a deadlock or a serialisation failure ended it.
        """

    @abstractmethod
    async def execute_script_async(self, script: str) -> None:
        """Run several statements without values, as one transaction."""

    @abstractmethod
    async def renew_async(self) -> None:
        """Use none of the connections again that are open now: one of them gave no answer, so that none is trusted."""

    @abstractmethod
    def listen(self, channel: str, listen_dsn: str | None = None) -> AbstractAsyncContextManager[Listener]:
        """Listen on a connection of its own, to `listen_dsn` or else to where the connector's own says.

        Whoever is inside has missed no notification since, if that leads to a session that lasts.
        """

    @abstractmethod
    def sync_twin(self) -> SyncConnector:
        """A new connector with the same settings for code that is not async."""

    async def __aenter__(self) -> Self:
        await self.open_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close_async()


class SyncConnector(Connector):
    """A connector for code that is not async: it defers and manages jobs, but can't run a worker."""

    @abstractmethod
    def open(self, pool: Any = None) -> None:
        """Connect. A `pool` of the driver's own kind, open already, is used, and not closed by `close`."""

    @abstractmethod
    def close(self) -> None:
        """Give the connections back. Harmless when it isn't open."""

    @abstractmethod
    def execute(self, statement: Statement[T], connection: Any = None) -> T:
        """Run a statement, in one round trip, and return what it reads; see `AsyncConnector.execute_async`."""

    @abstractmethod
    def execute_script(self, script: str) -> None:
        """Run several statements without values, as one transaction."""

    @abstractmethod
    def listen(self, channel: str) -> SyncListener:
        """Listen on a connection of its own; see `AsyncConnector.listen`. Whoever asked for it closes it."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
