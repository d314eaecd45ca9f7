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
    AlreadySent,
    AppNotOpen,
    CircularDependency,
    ConnectorException,
    DependencyNotFound,
    DependencyNotMet,
    DuplicateNode,
    EndlessWait,
    JobAborted,
    JobAlreadyStarted,
    JobFailed,
    JobNotFound,
    NodeNotFound,
    NotReadYet,
    NotSentYet,
    ProcrastinateException,
    TaskAlreadyRegistered,
    TaskNotFound,
    TransitionRefused,
    UnboundTaskError,
    WorkflowAlreadyRunning,
    WorkflowCancelled,
    WorkflowNotFound,
)
from procrastinate_deps.jobs import CancelKind, Job, NotStored, Progress, Status
from procrastinate_deps.manager import JobManager
from procrastinate_deps.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
from procrastinate_deps.tasks import JobDeferrer, Task
from procrastinate_deps.workflow_info import RetryMode, WorkflowInfo, WorkflowStatus
from procrastinate_deps.workflows import Chain, Node, Workflow, WorkflowBuilder, chain, group

if TYPE_CHECKING:
    from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector, SyncPsycopgConnector

__all__ = [
    "AbortReason",
    "AlreadyEnqueued",
    "AlreadySent",
    "App",
    "AppNotOpen",
    "AsyncpgConnector",
    "BaseRetryStrategy",
    "Blueprint",
    "CancelKind",
    "Chain",
    "CircularDependency",
    "ConnectorException",
    "DependencyNotFound",
    "DependencyNotMet",
    "DuplicateNode",
    "EndlessWait",
    "Job",
    "JobAborted",
    "JobAlreadyStarted",
    "JobContext",
    "JobDeferrer",
    "JobFailed",
    "JobManager",
    "JobNotFound",
    "JobStats",
    "Node",
    "NodeNotFound",
    "NotReadYet",
    "NotSentYet",
    "NotStored",
    "ProcrastinateException",
    "Progress",
    "PsycopgConnector",
    "RetryDecision",
    "RetryMode",
    "RetryStrategy",
    "RunWhen",
    "Status",
    "SyncPsycopgConnector",
    "Task",
    "TaskAlreadyRegistered",
    "TaskNotFound",
    "TransitionRefused",
    "UnboundTaskError",
    "Workflow",
    "WorkflowAlreadyRunning",
    "WorkflowBuilder",
    "WorkflowCancelled",
    "WorkflowInfo",
    "WorkflowNotFound",
    "WorkflowStatus",
    "__version__",
    "chain",
    "group",
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
