"""Why jobs wait, and what is bound to happen to them."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from procrastinate_deps.exceptions import JobNotFound
from procrastinate_deps.explanations import MAX_ANCESTORS, Doomed, Explanation, read_explanation
from procrastinate_deps.jobs import CancelKind, Status
from procrastinate_deps.statements.base import Row, Statement
from procrastinate_deps.validation import check_job_id
from procrastinate_deps.workflow_info import check_workflow_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from procrastinate_deps.jsontext import JsonLoads


def explain(job_id: int, max_ancestors: int = MAX_ANCESTORS) -> Statement[Explanation]:
    """Why a job stands where it stands; so many unfinished ancestors are listed. Raises JobNotFound."""
    return Statement("explain_job", (check_job_id(job_id), max_ancestors), functools.partial(_read_explanation, job_id))


def doomed_jobs(job_ids: Iterable[int]) -> Statement[list[Doomed]]:
    """Those of these jobs that are bound to be cancelled by their rule, by id."""
    return Statement("doomed_jobs", (sorted(set(job_ids)),), _read_doomed)


def doomed_in_workflow(workflow_id: int) -> Statement[list[Doomed]]:
    """The jobs of a workflow, and of those nested in it, that are bound to be cancelled by their rule, by id."""
    return Statement("doomed_in_workflow", (check_workflow_id(workflow_id),), _read_doomed)


def _read_explanation(job_id: int, rows: Sequence[Row], loads: JsonLoads) -> Explanation:
    if rows[0][0] is None:
        raise JobNotFound(job_id=job_id)
    # ours, and nothing of a user's: no business of a json_loads of the user's own
    return read_explanation(json.loads(rows[0][0]))


def _read_doomed(rows: Sequence[Row], loads: JsonLoads) -> list[Doomed]:
    return [
        Doomed(
            job_id=row[0],
            kind=CancelKind(row[1]),
            because=row[2],
            root=row[3],
            root_status=None if row[4] is None else Status(row[4]),
        )
        for row in rows
    ]
