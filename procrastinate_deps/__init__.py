"""A PostgreSQL-backed task framework whose job dependencies are enforced by the database."""

from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

from procrastinate_deps import connectors as _connectors
from procrastinate_deps.app import App
from procrastinate_deps.blueprints import Blueprint
from procrastinate_deps.context import AbortReason, JobContext
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.durations import JobStats
from procrastinate_deps.exceptions import (
    AlreadyEnqueued,
    AppNotOpen,
    CircularDependency,
    ConnectorException,
    DependencyNotFound,
    DependencyNotMet,
    JobAborted,
    JobAlreadyStarted,
    JobNotFound,
    ProcrastinateException,
    TaskAlreadyRegistered,
    TaskNotFound,
    TransitionRefused,
    UnboundTaskError,
)
from procrastinate_deps.jobs import CancelKind, Job, Status
from procrastinate_deps.manager import JobManager
from procrastinate_deps.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
from procrastinate_deps.tasks import JobDeferrer, Task

if TYPE_CHECKING:
    from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector, SyncPsycopgConnector

__all__ = [
    "AbortReason",
    "AlreadyEnqueued",
    "App",
    "AppNotOpen",
    "AsyncpgConnector",
    "BaseRetryStrategy",
    "Blueprint",
    "CancelKind",
    "CircularDependency",
    "ConnectorException",
    "DependencyNotFound",
    "DependencyNotMet",
    "Job",
    "JobAborted",
    "JobAlreadyStarted",
    "JobContext",
    "JobDeferrer",
    "JobManager",
    "JobNotFound",
    "JobStats",
    "ProcrastinateException",
    "PsycopgConnector",
    "RetryDecision",
    "RetryStrategy",
    "RunWhen",
    "Status",
    "SyncPsycopgConnector",
    "Task",
    "TaskAlreadyRegistered",
    "TaskNotFound",
    "TransitionRefused",
    "UnboundTaskError",
    "__version__",
]

try:
    __version__ = _metadata.version("procrastinate-deps")
except _metadata.PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"


if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name: str) -> Any:
        # A connector's driver is imported with it: psycopg fails on a machine without libpq, where asyncpg works.
        if name in _connectors.__all__:
            return getattr(_connectors, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
