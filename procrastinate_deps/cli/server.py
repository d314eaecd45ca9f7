"""Serves the dashboard."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import anyio
import click
import uvicorn

from procrastinate_deps.cli.program import Failure
from procrastinate_deps.eventloop import backend_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from procrastinate_deps.dashboard.state import State


def serve(dashboard: Starlette, host: str, port: int, close_within_s: int) -> None:
    """Until SIGINT or SIGTERM."""
    state: State = dashboard.state.dashboard
    config = uvicorn.Config(
        dashboard,
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=close_within_s,
        server_header=False,
    )

    async def run() -> None:
        # Opened here already, so that a database that is away is told in one line.
        async with state.app.open_async():
            await state.app.check_connection_async()
            click.echo(f"The dashboard is at {_address(listening, host)}")
            await _Server(config, state).serve([listening])

    with _listen(host, port) as listening:
        anyio.run(run, backend_options=backend_options(None))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise Failure(
            f"can't listen on {host}, port {port}: {os.strerror(error.errno or 0)}; give another --port or --host"
        ) from error


def _address(listening: socket.socket, host: str) -> str:
    name = f"[{host}]" if listening.family is socket.AF_INET6 else host
    return f"http://{name}:{listening.getsockname()[1]}"


class _Server(uvicorn.Server):
    """Ends the streams of pages that listen before it waits for answers to be finished; a signal is no failure."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.live.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
