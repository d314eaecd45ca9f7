"""An app's connector, and the sync twin of an async one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from procrastinate_deps.connectors.base import AsyncConnector, SyncConnector
from procrastinate_deps.exceptions import SyncConnectorConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from procrastinate_deps.connectors.base import Listener, SyncListener
    from procrastinate_deps.statements import Statement

T = TypeVar("T")


class ConnectorPair:
    """Runs statements sync and async, where the given connector may do only one of both.

    Sync code that runs while the async connector is open (a task in a thread) finds its twin opened at its first
    statement; it is closed with the async connector.
    """

    def __init__(self, connector: AsyncConnector | SyncConnector) -> None:
        if not isinstance(connector, (AsyncConnector, SyncConnector)):
            raise TypeError(f"connector={connector!r}: pass a connector, as in App(PsycopgConnector(conninfo=...))")
        self.connector = connector
        self._lock = threading.RLock()
        self._twin: SyncConnector | None = None
        self._twin_open = False
        self._open_async = False

    def open(self, pool: Any) -> None:
        with self._lock:
            self._sync().open(pool)
            self._twin_open = True

    def close(self) -> None:
        with self._lock:
            self._twin_open = False
            twin, self._twin = self._twin, None
            if isinstance(self.connector, SyncConnector):
                self.connector.close()
            elif twin is not None:
                twin.close()

    async def open_async(self, pool: Any) -> None:
        await self._async().open_async(pool)
        self._open_async = True

    async def close_async(self) -> None:
        self._open_async = False
        try:
            await self._async().close_async()
        finally:
            # It waits for the pool's threads.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.close)

    def execute(self, statement: Statement[T], connection: Any) -> T:
        if connection is None and not self._twin_open and self._open_async:
            self.open(None)
        return self._sync().execute(statement, connection)

    async def execute_async(self, statement: Statement[T], connection: Any) -> T:
        return await self._async().execute_async(statement, connection)

    def listen(self) -> SyncListener:
        """Listen for what is announced, for code that is not async."""
        return self._sync().listen(self.connector.schema)

    def listen_async(self) -> AbstractAsyncContextManager[Listener]:
        """Listen for what is announced."""
        return self._async().listen(self.connector.schema)

    def _sync(self) -> SyncConnector:
        if isinstance(self.connector, SyncConnector):
            return self.connector
        with self._lock:
            if self._twin is None:
                self._twin = self.connector.sync_twin()
            return self._twin

    def _async(self) -> AsyncConnector:
        if isinstance(self.connector, AsyncConnector):
            return self.connector
        raise SyncConnectorConfigurationError(
            f"{type(self.connector).__name__} is not async: use the verb without _async in its name, "
            "or give the app an async connector"
        )
