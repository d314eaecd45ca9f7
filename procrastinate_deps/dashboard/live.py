"""Tells open pages that something changed: by what the database announces, and by looking now and then.

There is no task in the background: one of those who look at a page listens for all of them, and when that one leaves,
another takes over. So it works mounted in somebody else's app too, where no lifespan is run.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

import anyio

from procrastinate_deps import statements
from procrastinate_deps.connectors.base import AsyncConnector
from procrastinate_deps.exceptions import ProcrastinateException

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from procrastinate_deps.app import App
    from procrastinate_deps.dashboard.state import Limited

logger = logging.getLogger(__name__)

THROTTLE_S = 0.5
"""A page hears of changes this often at most."""

PULSE_S = 1.0
"""How often the database is asked whether anything was written."""

REFRESH_S = 5.0
"""And a page is told to look again at least this often: the server's counts of writes come late."""

RECONNECT_S = 2.0

STREAM_LIFE_S = 55.0
"""A stream ends after so long and the browser opens another one: a server that stops waits no longer than that for the
streams of an app that this is mounted in."""


MAX_STREAMS = 500
"""So many pages can be live at the same time; each keeps a connection and some tasks."""


class Live:
    """All streams of one dashboard."""

    def __init__(self, app: App, reads: Limited) -> None:
        self._app = app
        self._reads = reads
        self._version = 0
        self._closed = False
        self._changed: anyio.Event | None = None
        self._listening: anyio.Lock | None = None
        self.streams = 0

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closed = True
        self._wake()

    def announce(self) -> None:
        """Something changed."""
        self._version += 1
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
        self._changed = None

    async def wait(self, seen: int, timeout_s: float) -> int:
        """The version, as soon as it is another one than `seen`, or there was none for so long, or streams end."""
        with anyio.move_on_after(timeout_s):
            while self._version == seen and not self._closed:
                if self._changed is None:
                    self._changed = anyio.Event()
                await self._changed.wait()
        return self._version

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def version(self) -> int:
        return self._version

    async def listen(self) -> None:
        """Listen for everybody, when it is this one's turn; until it is cancelled."""
        # Made here: only where it runs is it known for which event loop.
        if self._listening is None:
            self._listening = anyio.Lock()
        async with self._listening, anyio.create_task_group() as group:
            group.start_soon(self._hear)
            await self._feel()

    async def _hear(self) -> None:
        connector = self._app.connector
        while isinstance(connector, AsyncConnector):
            try:
                async with connector.listen(connector.schema) as payloads:
                    self.announce()
                    async for _ in payloads:
                        self.announce()
            except ProcrastinateException as error:
                logger.debug("The dashboard isn't listening: %s", error, extra={"action": "dashboard_listen_lost"})
            await anyio.sleep(RECONNECT_S)

    async def _feel(self) -> None:
        pulse: int | None = None
        refreshed_at = time.monotonic()
        while True:
            await anyio.sleep(PULSE_S)
            try:
                felt = await self._reads.execute_async(statements.dashboard_pulse())
            except ProcrastinateException as error:
                logger.debug("The dashboard can't look: %s", error, extra={"action": "dashboard_look_failed"})
                felt = None
            if felt != pulse or time.monotonic() - refreshed_at >= REFRESH_S:
                refreshed_at = time.monotonic()
                self.announce()
            pulse = felt


class EventStream:
    """The response to a page that listens: an event for each change, two a second at most."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            # nginx would keep the events to itself
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._live.streams += 1
        try:
            async with anyio.create_task_group() as group:

                async def leave() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(leave)
                group.start_soon(self._live.listen)
                with anyio.move_on_after(STREAM_LIFE_S):
                    await self._tell(send)
                group.cancel_scope.cancel()
        finally:
            self._live.streams -= 1
        if not self._live.closed:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        async def write(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        seen = self._live.version
        await write(f"retry: 1000\nevent: hello\ndata: {seen}\n\n")
        while True:
            version = await self._live.wait(seen, REFRESH_S * 2)
            if self._live.closed:
                break
            if version == seen:
                await write(": still there\n\n")
                continue
            seen = version
            await write(f"event: change\ndata: {json.dumps({'version': version})}\n\n")
            await anyio.sleep(THROTTLE_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
