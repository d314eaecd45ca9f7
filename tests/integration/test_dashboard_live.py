"""The stream that tells pages of changes: one connection listens for all of them."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps.dashboard import create_dashboard, live
from tests.integration.worker_helpers import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from starlette.applications import Starlette

    from procrastinate_deps import App


class Stream:
    """A page that listens, at the ASGI app itself: a client of httpx would read to the end first."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str]] = []
        self.status = 0
        self.ended = False
        self.leave = anyio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        for line in message.get("body", b"").decode().splitlines():
            if line.startswith("event: "):
                self.events.append((time.monotonic(), line.removeprefix("event: ")))
        self.ended = not message.get("more_body", False)

    @property
    def changes(self) -> int:
        return sum(event == "change" for _, event in self.events)


@contextlib.asynccontextmanager
async def listening(dashboard: Starlette, **headers: str) -> AsyncIterator[Stream]:
    stream = Stream()
    scope = {
        "type": "http", "method": "GET", "path": "/live", "root_path": "", "query_string": b"", "scheme": "http",
        "headers": [(b"host", b"localhost"), *((k.encode(), v.encode()) for k, v in headers.items())],
        "client": ("127.0.0.1", 1), "server": ("localhost", 80),
    }  # fmt: skip
    async with anyio.create_task_group() as group:
        group.start_soon(dashboard, scope, stream.receive, stream.send)
        await until(lambda: stream.status, "the stream's beginning")
        try:
            yield stream
        finally:
            stream.leave.set()


def listeners(app: App) -> int:
    with psycopg.connect(**app.connector.connection_parameters()) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN %'"
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def slow_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of comes from a notification."""
    monkeypatch.setattr(live, "PULSE_S", 1000.0)


@pytest.mark.usefixtures("slow_poll")
async def test_what_the_database_announces_is_told(app: App) -> None:
    async with listening(create_dashboard(app)) as stream:
        assert stream.status == 200
        await until(lambda: stream.changes == 1, "listening")
        await app.configure_task("x").defer_async()
        await until(lambda: stream.changes >= 2, "a change")


async def test_what_nobody_announces_is_seen(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PULSE_S", 0.05)
    monkeypatch.setattr(live, "REFRESH_S", 1000.0)
    async with listening(create_dashboard(app)) as stream:
        await until(lambda: stream.changes >= 1, "listening")
        before = stream.changes
        with psycopg.connect(**app.connector.connection_parameters(), autocommit=True) as connection:
            connection.execute("INSERT INTO procrastinate_deps.paused_queues (queue) VALUES ('x')")
            # the server's counts of writes come when a session has nothing to do, at the latest when it ends
        await until(lambda: stream.changes > before, "a change")


@pytest.mark.usefixtures("slow_poll")
async def test_two_changes_a_second_at_most(app: App) -> None:
    async with listening(create_dashboard(app)) as stream:
        await until(lambda: stream.changes == 1, "listening")
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            await app.configure_task("x").defer_async()
            await anyio.sleep(0.01)
        await until(lambda: stream.changes >= 3, "changes")
        times = [at for at, event in stream.events if event == "change"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= live.THROTTLE_S * 0.9


@pytest.mark.usefixtures("slow_poll")
async def test_one_connection_listens_for_all_and_another_takes_over(app: App) -> None:
    dashboard = create_dashboard(app)
    async with listening(dashboard) as first:
        await until(lambda: first.changes == 1, "listening")
        async with listening(dashboard) as second, listening(dashboard) as third:
            await app.configure_task("x").defer_async()
            await until(lambda: second.changes and third.changes, "a change for all")
            assert listeners(app) == 1
            before = second.changes
            first.leave.set()
            await until(lambda: second.changes > before and third.changes > 1, "another one listens")
            assert listeners(app) == 1
            before = third.changes
            await app.configure_task("x").defer_async()
            await until(lambda: third.changes > before, "a change")
    with anyio.fail_after(DEADLINE_S):
        while listeners(app):  # noqa: ASYNC110 - what the server knows
            await anyio.sleep(0.05)


@pytest.mark.usefixtures("slow_poll")
async def test_a_connection_that_is_lost_is_made_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "RECONNECT_S", 0.05)
    async with listening(create_dashboard(app)) as stream:
        await until(lambda: stream.changes == 1, "listening")
        with psycopg.connect(**app.connector.connection_parameters(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query ILIKE 'LISTEN %'"
            )
        await until(lambda: stream.changes >= 2, "listening again")
        before = stream.changes
        await app.configure_task("x").defer_async()
        await until(lambda: stream.changes > before, "a change")


async def test_a_server_that_stops_ends_the_streams(app: App) -> None:
    dashboard = create_dashboard(app)
    async with listening(dashboard) as stream:
        await until(lambda: stream.events, "the beginning")
        dashboard.state.dashboard.live.close()
        await until(lambda: stream.ended, "the end")
    assert dashboard.state.dashboard.live.streams == 0


async def test_a_stream_has_its_time(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the browser opens another: so a server that this is mounted in can stop."""
    monkeypatch.setattr(live, "STREAM_LIFE_S", 0.2)
    async with listening(create_dashboard(app)) as stream:
        await until(lambda: stream.ended, "the end")


async def test_not_for_everybody(app: App) -> None:
    async with listening(create_dashboard(app, auth=lambda request: False)) as stream:
        assert stream.status == 403
