"""The model's view of things against the database's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.model.model import WAITING, Job, Model, RefusedError


@contextmanager
def same_refusal(refused: RefusedError) -> Iterator[None]:
    """The database says what the model says."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate not in refused.codes:
            raise AssertionError(f"{error.sqlstate} instead of {refused}: {error}") from error
    else:
        raise AssertionError(f"done instead of being refused with {refused}")


def placed_id(place: int, first: int) -> int:
    """An id stays; a position, which is negative, is counted from the first."""
    return first - place if place <= 0 else place


def placed(job: Job, first: int, first_workflow: int = 0) -> Job:
    copied = copy.deepcopy(job)
    copied.id = placed_id(job.id, first)
    copied.parents = {placed_id(parent, first) for parent in job.parents}
    copied.whole = {placed_id(workflow, first_workflow) for workflow in job.whole}
    copied.workflow = None if job.workflow is None else placed_id(job.workflow, first_workflow)
    return copied


def visible(model: Model, job: Job) -> dict[str, Any]:
    return {
        "status": job.status,
        "cancel_kind": job.cancel_kind,
        "claim": job.claim,
        "queue": job.queue,
        "priority": job.priority,
        "lock": job.lock,
        "run_when": job.run_when,
        "worker": job.worker if job.status == "doing" else None,
        "abort_requested": job.status == "doing" and job.abort_requested,
        "delayed": job.status in WAITING and job.delayed,
        "parents": [list(parent) for parent in model.parent_statuses(job)],
    }
