"""Verbs: why jobs wait, and what is bound to happen to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.explanations import MAX_ANCESTORS
from procrastinate_deps.verbs.base import Call, one

if TYPE_CHECKING:
    from collections.abc import Iterable

    from procrastinate_deps.explanations import Doomed, Explanation


def explain(job_id: int, max_ancestors: int = MAX_ANCESTORS, connection: Any = None) -> Call[Explanation]:
    """Why a job stands where it stands, and what is bound to happen to it, in one snapshot.

    Parameters
    ----------
    max_ancestors:
        How many of the unfinished jobs that it waits for are listed, nearest first. Default: 200.

    Returns
    -------
    An `Explanation`: `str()` gives it as text, `as_dict()` for JSON.

    Raises
    ------
    JobNotFound
    """
    return one(statements.explain(job_id, max_ancestors), connection)


def doomed_jobs(
    job_ids: Iterable[int] | None = None, workflow_id: int | None = None, connection: Any = None
) -> Call[list[Doomed]]:
    """Which blocked jobs are bound to be cancelled by their rule, however what they wait for ends; by id.

    Parameters
    ----------
    job_ids, workflow_id:
        The jobs to look at, or the workflow whose jobs, nested ones included, are meant: one of the two.
    """
    if (job_ids is None) == (workflow_id is None):
        raise TypeError("pass either job_ids or workflow_id")
    if workflow_id is not None:
        return one(statements.doomed_in_workflow(workflow_id), connection)
    return one(statements.doomed_jobs(job_ids or ()), connection)
