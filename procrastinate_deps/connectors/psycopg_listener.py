"""How code that is not async listens, with psycopg."""

from __future__ import annotations

import contextlib
import selectors
import socket

import psycopg
from psycopg import sql as composed

from procrastinate_deps.connectors import psycopg_driver as driver
from procrastinate_deps.connectors.base import SyncListener


class SyncPsycopgListener(SyncListener):
    """On a connection of its own; whoever waits for it can be woken by another thread.

    Parameters
    ----------
    connection:
        In autocommit; it is closed with this.
    """

    def __init__(self, connection: driver.SyncConnection, channel: str) -> None:
        self._connection = connection
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector = selectors.DefaultSelector()
        try:
            self._connection.execute(composed.SQL("LISTEN {}").format(composed.Identifier(channel)), prepare=False)
            self._selector.register(self._connection, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise driver.translated(error) from error
            raise

    def wait(self, timeout_s: float | None) -> list[str]:
        ready = self._selector.select(timeout_s)
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        if all(key.fileobj is self._woken for key, _ in ready):
            return []
        try:
            return [notification.payload for notification in self._connection.notifies(timeout=0)]
        except psycopg.Error as error:
            raise driver.translated(error) from error

    def wake(self) -> None:
        # A pipe that is full wakes, too; one that is closed has nobody to wake.
        with contextlib.suppress(BlockingIOError, OSError):
            self._waker.send(b"\0")

    def close(self) -> None:
        self._selector.close()
        self._waker.close()
        self._woken.close()
        self._connection.close()
