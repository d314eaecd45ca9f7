"""How a connection of asyncpg's is made: one host after another, each with its own time, as libpq does it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

# What says "try the next host": it can't be reached, is starting or stopping, or is not the server that was asked for.
_NEXT_HOST = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TargetServerAttributeNotMatched,
)


def connecting(
    hosts: Sequence[dict[str, Any]], socket_options: Sequence[tuple[int, int, int]]
) -> Callable[..., Awaitable[asyncpg.Connection[Any]]]:
    """The `connect` of a pool, for these hosts (none: those that its arguments say).

    asyncpg gives all hosts together one time limit, which the first one that is silent would use up.
    """

    async def connect(*args: Any, **arguments: Any) -> asyncpg.Connection[Any]:
        connection: asyncpg.Connection[Any] = await _to_any(hosts, args, arguments)
        _set_options(connection, socket_options)
        return connection

    return connect


async def _to_any(hosts: Sequence[dict[str, Any]], args: Sequence[Any], arguments: dict[str, Any]) -> Any:
    if not hosts:
        return await asyncpg.connect(*args, **arguments)
    refusals = []
    for host in hosts:
        try:
            return await asyncpg.connect(*args, **arguments | host)
        except _NEXT_HOST as error:
            refusals.append(f"{host['host']}: {str(error) or type(error).__name__}")
    raise ConnectionError("; ".join(refusals))


def _set_options(connection: asyncpg.Connection[Any], options: Sequence[tuple[int, int, int]]) -> None:
    transport = getattr(connection, "_transport", None)  # asyncpg has no other way to it
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for level, name, value in options:
            sock.setsockopt(level, name, value)
