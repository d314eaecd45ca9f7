"""What of a job, a workflow and an explanation is shown where something is to be hidden."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from procrastinate_deps.dashboard.hiding import HIDDEN
from procrastinate_deps.jobs import NotStored
from procrastinate_deps.obstacles import Running

if TYPE_CHECKING:
    from collections.abc import Iterable

    from procrastinate_deps.dashboard.hiding import Hider
    from procrastinate_deps.explanations import Explanation
    from procrastinate_deps.jobs import Job
    from procrastinate_deps.obstacles import Obstacle
    from procrastinate_deps.statements import FailureRow, JobRow
    from procrastinate_deps.workflow_info import WorkflowInfo

PIECE = 200
"""A text of a list that is at least so long may be a piece of a longer one."""


def of_row(hider: Hider, row: JobRow) -> JobRow:
    """A job of a list."""
    return dataclasses.replace(
        row,
        task_kwargs=hider(row.task_name, row.task_kwargs),
        error=_piece(hider, row, row.error),
        cancel_reason=None if row.cancel_reason is None else _piece(hider, row, row.cancel_reason),
        progress_message=None if row.progress_message is None else _piece(hider, row, row.progress_message),
    )


def of_failure(hider: Hider, row: FailureRow) -> FailureRow:
    """A job that failed."""
    return dataclasses.replace(
        row, task_kwargs=hider(row.task_name, row.task_kwargs), error=_piece(hider, row, row.error)
    )


def of_job(hider: Hider, job: Job) -> Job:
    """A job, all of it."""
    if not hider.hides_something:
        return job
    task, arguments = job.task_name, job.task_kwargs
    progress = job.progress
    if progress is not None and progress.message is not None:
        progress = dataclasses.replace(progress, message=hider.text(task, arguments, progress.message))
    result = job.result
    if not isinstance(result, NotStored):
        result = hider.texts(task, arguments, hider(task, result))
    return job.evolve(
        task_kwargs=hider(task, arguments),
        result=result,
        error=None if job.error is None else hider.text(task, arguments, job.error),
        cancel_reason=None if job.cancel_reason is None else hider.text(task, arguments, job.cancel_reason),
        progress=progress,
    )


def of_explanation(hider: Hider, job: Job, explanation: Explanation) -> Explanation:
    """Why a job waits. Of other jobs the arguments are not known here: what they say of their progress is left out."""
    if not hider.hides_something:
        return explanation
    task, arguments = job.task_name, job.task_kwargs
    return dataclasses.replace(
        explanation,
        error=None if explanation.error is None else hider.text(task, arguments, explanation.error, whole=False),
        cancel_reason=hider.texts(task, arguments, explanation.cancel_reason),
        obstacles=_silent(explanation.obstacles),
        roots=tuple(dataclasses.replace(root, obstacles=_silent(root.obstacles)) for root in explanation.roots),
    )


def of_workflow(hider: Hider, workflow: WorkflowInfo) -> WorkflowInfo:
    """A workflow: its metadata is treated as arguments of a task without a name."""
    return dataclasses.replace(workflow, metadata=hider("", workflow.metadata))


def _piece(hider: Hider, row: JobRow | FailureRow, text: str) -> str:
    return hider.text(row.task_name, row.task_kwargs, text, whole=len(text) < PIECE)


def _silent(obstacles: Iterable[Obstacle]) -> tuple[Obstacle, ...]:
    return tuple(
        dataclasses.replace(each, progress=_without_message(each.progress))
        if isinstance(each, Running) and each.progress is not None
        else each
        for each in obstacles
    )


def _without_message(progress: Any) -> dict[str, Any]:
    return {**progress, "message": HIDDEN} if progress.get("message") else dict(progress)
