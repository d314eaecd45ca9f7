"""Workflows as the database has them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from procrastinate_deps.dependencies import MAX_JOB_ID
from procrastinate_deps.exceptions import WorkflowNotFound

if TYPE_CHECKING:
    from datetime import datetime

    from procrastinate_deps.jobs import CancelKind, Status


class WorkflowStatus(StrEnum):
    """Where a workflow is in its life: what its jobs came to, those of the workflows nested in it included."""

    RUNNING = "running"  # a job of it is live
    SUCCEEDED = "succeeded"  # none of the below; an empty workflow, too
    FAILED = "failed"  # a job failed, was aborted, or was cancelled because of one that did
    CANCELLED = "cancelled"  # it was cancelled since its last retry, before all succeeded; or a job of it, by hand


class RetryMode(StrEnum):
    """Which jobs of a workflow run again."""

    FAILED = "failed"  # what failed, was aborted or was cancelled by hand
    FAILED_AND_DOWNSTREAM = "failed_and_downstream"  # and everything after it in the workflow, however it ended
    ALL = "all"


def check_workflow_id(given: object) -> int:
    """The id. Raises TypeError for what is none, WorkflowNotFound for what no workflow can have."""
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"workflow_id={given!r}: pass the workflow's id, an int")
    if not 0 < given <= MAX_JOB_ID:
        raise WorkflowNotFound(f"workflow {given} can't exist: ids are positive and fit in 64 bits", workflow_id=given)
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredGraph:
    """The ids of workflows and jobs that were deferred, in the order in which they were given."""

    workflow_ids: list[int]
    job_ids: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowInfo:
    """A workflow as it was when it was read. All times are aware, in UTC.

    Attributes
    ----------
    parent_id:
        The workflow that it is nested in.
    path:
        Ids from the root down to itself.
    counts:
        How many of its jobs have each status, those of the workflows nested in it included.
    cancel_kinds:
        The cancelled ones by why they were.
    total:
        How many jobs it has.
    started_at, finished_at:
        When its first job was claimed, when its last one ended; None: not yet.
    cancel_requested:
        It was cancelled, and not retried since.
    """

    id: int
    name: str
    parent_id: int | None
    path: tuple[int, ...]
    metadata: dict[str, Any]
    unique: bool
    status: WorkflowStatus
    counts: dict[Status, int]
    cancel_kinds: dict[CancelKind, int]
    total: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool

    @property
    def live(self) -> int:
        """How many of its jobs have not ended."""
        return sum(count for status, count in self.counts.items() if not status.is_terminal)

    @property
    def progress(self) -> float:
        """How much of it has ended, from 0 to 1; 1 of an empty one."""
        return (self.total - self.live) / self.total if self.total else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCancellation:
    """What cancelling a workflow did: how many jobs it cancelled, and how many running ones it asked to abort."""

    cancelled: int
    abort_requested: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A child and one of its parents."""

    parent_id: int
    child_id: int
