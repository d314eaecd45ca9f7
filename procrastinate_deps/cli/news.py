"""Waits until the database announces something, or for a while."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from procrastinate_deps.connectors.base import SyncConnector
from procrastinate_deps.exceptions import ConnectorException

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps.app import App
    from procrastinate_deps.connectors.base import SyncListener

RECONNECT_S = 5.0


class News:
    """What is announced wakes it; whoever waits looks after a while all the same.

    Without a connection that listens it only waits: a pooler may stand between, or the server be away.
    """

    def __init__(self, app: App) -> None:
        connector = app.connector
        self._channel = connector.schema
        self._connector = connector if isinstance(connector, SyncConnector) else connector.sync_twin()
        self._listener: SyncListener | None = None
        self._listen_at = 0.0

    def wait(self, at_least_s: float, at_most_s: float) -> None:
        """Until something is announced, but not longer, nor shorter."""
        time.sleep(at_least_s)
        left_s = max(0.0, at_most_s - at_least_s)
        if self._listener is None and time.monotonic() >= self._listen_at:
            try:
                self._listener = self._connector.listen(self._channel)
            except ConnectorException:
                self._listen_at = time.monotonic() + RECONNECT_S
            else:
                return  # what was announced before is known to nobody
        if self._listener is None:
            time.sleep(left_s)
            return
        try:
            self._listener.wait(left_s)
        except ConnectorException:
            self.close()
            self._listen_at = time.monotonic() + RECONNECT_S

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()


@contextlib.contextmanager
def listening(app: App) -> Iterator[News]:
    news = News(app)
    try:
        yield news
    finally:
        news.close()
