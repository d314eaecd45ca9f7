"""Verbs: queues, workers, periodic tasks and the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps import statements
from procrastinate_deps.statements import STALLED_AFTER_S
from procrastinate_deps.verbs.base import Call, one

if TYPE_CHECKING:
    from procrastinate_deps.jobs import PeriodicTaskInfo


def pause_queue(queue: str) -> Call[bool]:
    """Let no more of the queue's jobs start; those that run go on. False: it was paused already."""
    return one(statements.pause_queue(queue))


def resume_queue(queue: str) -> Call[bool]:
    """Let the queue's jobs start again. False: it was not paused."""
    return one(statements.resume_queue(queue))


def prune_stalled_workers(seconds_since_lost: float = STALLED_AFTER_S) -> Call[list[str]]:
    """Forget workers that were declared lost so many seconds ago and hold no jobs any more; their names."""
    return one(statements.prune_workers(seconds_since_lost))


def list_periodic_tasks() -> Call[list[PeriodicTaskInfo]]:
    """The periodic tasks that workers have made known, each with the last period that was deferred and the next one."""
    return one(statements.list_periodic_tasks())


def run_periodic_task(task_name: str, periodic_id: str = "") -> Call[int]:
    """Defer a job of a periodic task now, besides its schedule; the job's id. Its timestamp is the present time.

    Raises
    ------
    TaskNotFound when no worker has made such a task known; AlreadyEnqueued
    """
    return one(statements.run_periodic_task(task_name, periodic_id))


def forget_periodic_task(task_name: str, periodic_id: str = "") -> Call[bool]:
    """List a periodic task no more that no worker has any longer; one that has it makes it known when it starts.

    Returns
    -------
    False when nothing is known of it.
    """
    return one(statements.forget_periodic_task(task_name, periodic_id))


def check_connection() -> Call[bool]:
    """Whether the database answers and has the tables."""
    return one(statements.check_connection())
