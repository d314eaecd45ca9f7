"""Connectors: how statements reach PostgreSQL. Each driver is imported when its connector is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from procrastinate_deps.connectors.base import (
    LISTEN_DSN_VARIABLE,
    AsyncConnector,
    Connector,
    Listener,
    SyncConnector,
)

if TYPE_CHECKING:
    from procrastinate_deps.connectors.asyncpg import AsyncpgConnector
    from procrastinate_deps.connectors.psycopg import PsycopgConnector, SyncPsycopgConnector

_DRIVERS = {"AsyncpgConnector": "asyncpg", "PsycopgConnector": "psycopg", "SyncPsycopgConnector": "psycopg"}

__all__ = [
    "LISTEN_DSN_VARIABLE",
    "AsyncConnector",
    "AsyncpgConnector",
    "Connector",
    "Listener",
    "PsycopgConnector",
    "SyncConnector",
    "SyncPsycopgConnector",
]


def __getattr__(name: str) -> Any:
    if name not in _DRIVERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DRIVERS[name]}"), name)
