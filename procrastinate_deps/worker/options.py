"""What a worker can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from procrastinate_deps.connectors import dsn
from procrastinate_deps.jobs import DeleteJobCondition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from procrastinate_deps.worker.line import Line

DeleteJobs: TypeAlias = DeleteJobCondition | Literal["never", "successful", "always"]

NAME = "worker"
CONCURRENCY = 1
FETCH_POLL_INTERVAL_S = 5.0
ABORT_POLL_INTERVAL_S = 5.0
HEARTBEAT_INTERVAL_S = 10.0
# Two heartbeats may go astray before a worker is taken for lost.
STALLED_TIMEOUT_S = 30.0
MAX_RESCUES = 3
BLOCKED_LOOP_THRESHOLD_S = 1.0
SWEEP_INTERVAL_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """The options of `Worker`, checked; their meaning is documented there."""

    queues: Iterable[str] | None = None
    name: str | None = None
    concurrency: int = CONCURRENCY
    wait: bool = True
    fetch_job_polling_interval: float = FETCH_POLL_INTERVAL_S
    abort_job_polling_interval: float = ABORT_POLL_INTERVAL_S
    shutdown_graceful_timeout: float | None = None
    listen_notify: bool = True
    delete_jobs: DeleteJobs = "never"
    additional_context: Mapping[str, Any] | None = None
    install_signal_handlers: bool = True
    update_heartbeat_interval: float = HEARTBEAT_INTERVAL_S
    stalled_worker_timeout: float = STALLED_TIMEOUT_S
    max_rescues: int = MAX_RESCUES
    prune_after: float | timedelta | None = None
    blocked_loop_threshold: float | None = BLOCKED_LOOP_THRESHOLD_S
    sweep_interval: float | None = SWEEP_INTERVAL_S
    # may hold a password
    listen_dsn: str | None = field(default=None, repr=False)
    supervisor: Line | None = None
    queue_names: list[str] | None = field(init=False)
    prune_after_s: float | None = field(init=False)
    worker_name: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            dsn.parse(self.listen_dsn or "")
        except ValueError as error:  # which doesn't show the string
            raise ValueError(f"listen_dsn: {error}") from None
        object.__setattr__(self, "queue_names", _queue_names(self.queues))
        object.__setattr__(self, "worker_name", self.name or NAME)
        object.__setattr__(self, "prune_after_s", _seconds_of_hours(self.prune_after))
        if self.concurrency < 1:
            raise ValueError(f"concurrency={self.concurrency!r}: a worker runs at least 1 job at a time")
        if self.max_rescues < 0:
            raise ValueError(f"max_rescues={self.max_rescues!r} is negative; 0 means that a lost job fails at once")
        for name in (
            "fetch_job_polling_interval",
            "abort_job_polling_interval",
            "update_heartbeat_interval",
            "stalled_worker_timeout",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: pass a number of seconds above 0")
        if self.shutdown_graceful_timeout is not None and self.shutdown_graceful_timeout < 0:
            raise ValueError(
                f"shutdown_graceful_timeout={self.shutdown_graceful_timeout!r} is negative; "
                "pass seconds, or None to wait for running jobs as long as they take"
            )
        if self.stalled_worker_timeout <= self.update_heartbeat_interval:
            raise ValueError(
                f"stalled_worker_timeout={self.stalled_worker_timeout!r} is not above "
                f"update_heartbeat_interval={self.update_heartbeat_interval!r}: "
                "every worker would be taken for lost between two heartbeats"
            )
        if self.prune_after_s is not None and self.prune_after_s <= 0:
            raise ValueError(f"prune_after={self.prune_after!r}: pass hours above 0, or a timedelta, or None for never")
        if self.blocked_loop_threshold is not None and self.blocked_loop_threshold < 0:
            raise ValueError(
                f"blocked_loop_threshold={self.blocked_loop_threshold!r} is negative; "
                "pass seconds, or None for no warning"
            )
        if self.sweep_interval is not None and self.sweep_interval < 0:
            raise ValueError(f"sweep_interval={self.sweep_interval!r} is negative; pass seconds, or None for never")
        # A type binds only those who run a type checker, and a typo here would delete or keep jobs.
        if self.delete_jobs not in list(DeleteJobCondition):
            raise ValueError(f"delete_jobs={self.delete_jobs!r}; pass one of {', '.join(DeleteJobCondition)}")


def _seconds_of_hours(hours: float | timedelta | None) -> float | None:
    return hours.total_seconds() if isinstance(hours, timedelta) else hours and hours * 3600


def _queue_names(queues: Iterable[str] | None) -> list[str] | None:
    if queues is None:
        return None
    if isinstance(queues, str):
        raise TypeError(f"queues={queues!r}: pass a list of names, as in queues=[{queues!r}]")
    names = sorted(set(queues))
    if not names:
        raise ValueError("queues=[] leaves nothing to fetch; pass None for every queue")
    return names
