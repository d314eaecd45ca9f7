"""Everything that this package raises on purpose. The base is `ProcrastinateException`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from procrastinate_deps.retry import RetryDecision

MIGRATE_COMMAND = "python -m procrastinate_deps migrate"


class ProcrastinateException(Exception):  # noqa: N818 - procrastinate's name
    """The base of this package's exceptions."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])


# Tasks and apps


class TaskNotFound(ProcrastinateException):
    """No task of this name is registered."""


class UnboundTaskError(ProcrastinateException):
    """The blueprint of this task was not added to an app."""


class TaskAlreadyRegistered(ProcrastinateException):
    """A task of this name is registered already."""


class MiddlewareKindMismatch(ProcrastinateException):
    """A sync middleware was given to an async task, or the other way round."""


class LoadFromPathError(ImportError, ProcrastinateException):
    """The app could not be loaded from the given path."""


class CallerModuleUnknown(ProcrastinateException):
    """The module of the caller could not be found out."""


class FunctionPathError(ProcrastinateException):
    """The function has no path that it could be imported by."""


class MissingApp(ProcrastinateException):
    """This command needs an app, and none was given."""


class AppNotOpen(ProcrastinateException):
    """The app was not open: call app.open() or `await app.open_async()` first."""


class SyncConnectorConfigurationError(ProcrastinateException):
    """A sync connector was used where an async one is needed."""


class InvalidTimestamp(ProcrastinateException):
    """The periodic task was called with a timestamp that its schedule doesn't have."""


class InvalidArguments(ProcrastinateException, TypeError, ValueError):  # noqa: N818 - named like its siblings
    """A job's arguments can't be stored as JSON.

    A TypeError and a ValueError too, because those are what `json.dumps` raises.
    """


# While a job runs


class JobRetry(ProcrastinateException):
    """The job is to run again."""

    def __init__(self, retry_decision: RetryDecision) -> None:
        super().__init__()
        self.retry_decision = retry_decision


class JobAborted(ProcrastinateException):
    """The job was asked to stop, and did. A task raises it when `context.should_abort()` says so."""


class JobFailed(ProcrastinateException):
    """The job, or a job of the workflow, that was waited for did not succeed.

    Attributes
    ----------
    job_id:
        The job; None: of a workflow that was cancelled no job is left that would say why.
    status:
        How it ended: "failed", "aborted" or "cancelled".
    error:
        Its last error with the traceback, as it is stored; also a note of this exception. None: there was none.
    cancel_kind, reason:
        Of a cancelled job: "manual", "upstream" or "not_needed", and why.
    workflow_id:
        The workflow that was waited for; None: it was a job.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        job_id: int | None = None,
        status: str | None = None,
        error: str | None = None,
        cancel_kind: str | None = None,
        reason: str | None = None,
        workflow_id: int | None = None,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.status = status
        self.error = error
        self.cancel_kind = cancel_kind
        self.reason = reason
        self.workflow_id = workflow_id
        if error:
            self.add_note(f"What the job has raised:\n{error.rstrip()}")


class EndlessWait(ProcrastinateException):
    """A running job can't wait for itself, nor for a job that waits for it: that would never end."""


# Jobs and their dependencies


class JobNotFound(ProcrastinateException):
    """There is no job of this id."""

    def __init__(self, message: str | None = None, *, job_id: int | None = None) -> None:
        super().__init__(
            message or (None if job_id is None else f"there is no job {job_id}: it was deleted, or never deferred")
        )
        self.job_id = job_id


class WorkerNotRegistered(ProcrastinateException):
    """The database does not know this worker: it was never registered, or declared lost. Register it again."""


class AlreadyEnqueued(ProcrastinateException):
    """A job with the same queueing lock is waiting already."""

    def __init__(self, message: str | None = None, *, queueing_lock: str | None = None) -> None:
        super().__init__(
            message
            or (None if queueing_lock is None else f"a job with the queueing lock {queueing_lock!r} is waiting already")
        )
        self.queueing_lock = queueing_lock


class DependencyNotFound(ProcrastinateException):
    """A job can't depend on what doesn't exist: deleted, never deferred, or deferred but not committed yet."""

    def __init__(self, message: str | None = None, *, ids: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class CircularDependency(ProcrastinateException):
    """A job would have to wait for itself."""

    def __init__(self, message: str | None = None, *, cycle: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.cycle = tuple(cycle)


class JobAlreadyStarted(ProcrastinateException):
    """The job has started, so what it waits for can't be changed any more."""


class NotSentYet(ProcrastinateException):
    """The workflow has not been sent yet, so that it and its jobs have no ids: leave its `with` block first."""


class NotReadYet(ProcrastinateException):
    """The workflow has not been read from the database yet: call refresh(), or await refresh_async(), first."""


class AlreadySent(ProcrastinateException):
    """The workflow was sent: what is added to it now is added with workflow.add(...) or workflow.grow()."""


class NodeNotFound(ProcrastinateException, LookupError):  # noqa: N818 - like its siblings
    """The workflow has no node of this name."""


class DependencyNotMet(ProcrastinateException):
    """The parents of the job ended in a way that its run_when rule doesn't allow it to run."""

    def __init__(
        self, message: str | None = None, *, job_id: int | None = None, parents: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.parents = dict(parents or {})


class WorkflowNotFound(ProcrastinateException):
    """There is no workflow of this id: it was deleted, or never deferred."""

    def __init__(self, message: str | None = None, *, workflow_id: int | None = None) -> None:
        if message is None and workflow_id is not None:
            message = f"there is no workflow {workflow_id}: it was deleted, or never deferred"
        super().__init__(message)
        self.workflow_id = workflow_id


class WorkflowAlreadyRunning(AlreadyEnqueued):
    """A unique workflow of this name is live already."""

    def __init__(
        self, message: str | None = None, *, workflow_id: int | None = None, workflow_name: str | None = None
    ) -> None:
        super().__init__(message or self.__doc__)
        self.workflow_id = workflow_id
        self.workflow_name = workflow_name


class WorkflowCancelled(ProcrastinateException):
    """The workflow was cancelled: it takes no more jobs until it is retried."""

    def __init__(self, message: str | None = None, *, workflow_id: int | None = None) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id


class DuplicateNode(ProcrastinateException):
    """A workflow has two jobs of one name."""

    def __init__(self, message: str | None = None, *, node: str | None = None) -> None:
        super().__init__(message)
        self.node = node


class TransitionRefused(ProcrastinateException):
    """The job's status doesn't allow this."""


# The database


class ConnectorException(ProcrastinateException):
    """The database, or the way to it, failed.

    `sqlstate` is PostgreSQL's five-letter code, None where the error came from elsewhere. The driver's own exception
    is the `__cause__`.
    """

    def __init__(self, message: str | None = None, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class UniqueViolation(ConnectorException):
    """A unique constraint was violated."""

    def __init__(
        self, message: str | None = None, *, constraint_name: str | None = None, sqlstate: str = "23505"
    ) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.constraint_name = constraint_name


class NoResult(ConnectorException):
    """A row was expected, and none came."""


class LockNotAvailable(ConnectorException):
    """Another transaction, still open, holds rows that this needs: try again later."""


class IsolationLevelError(ConnectorException):
    """What settles children needs the isolation level READ COMMITTED."""


class SchemaNotReady(ConnectorException):
    """The database's schema is missing, or is not the one this program was made for."""

    def __init__(self, message: str | None = None, *, sqlstate: str | None = None) -> None:
        super().__init__(message or f"{self.__doc__} Run: {MIGRATE_COMMAND}", sqlstate=sqlstate)


def job_list(ids: Sequence[int], limit: int = 10) -> str:
    """Some ids as a message names them: 'job 3' or 'jobs 3, 4, 5 and 90 more'."""
    shown = ", ".join(str(i) for i in ids[:limit])
    more = f" and {len(ids) - limit} more" if len(ids) > limit else ""
    return f"{'job' if len(ids) == 1 else 'jobs'} {shown}{more}"


# The embedded server


class EmbeddedServerError(ProcrastinateException):
    """The embedded PostgreSQL is not installed, or could not be started or stopped."""
