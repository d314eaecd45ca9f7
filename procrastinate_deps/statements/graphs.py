"""What building and drawing a graph reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.graphs import GraphJob
from procrastinate_deps.jobs import CancelKind
from procrastinate_deps.statements.base import Row, Statement, utc, utc_or_none
from procrastinate_deps.statements.rows import read_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.jsontext import JsonLoads

RUN_TIMES_S = 3 * 86_400.0
"""So far back the run times of tasks are looked at."""


def find_nodes(workflow_id: int, names: Sequence[str]) -> Statement[dict[str, int]]:
    """The ids of the jobs with these names in a workflow, of those that there are."""
    return Statement("find_nodes", (workflow_id, list(names)), _read_ids)


def mean_run_times(task_names: Sequence[str], within_s: float = RUN_TIMES_S) -> Statement[dict[str, float]]:
    """How many seconds successful runs of these tasks took on average, where there were any."""
    return Statement("mean_run_times", (list(task_names), float(within_s)), _read_seconds, savepoint=True)


def workflow_graph_jobs(workflow_id: int) -> Statement[list[GraphJob]]:
    """What its graph is about of the jobs of a workflow, and of those nested in it, by id."""
    return Statement("workflow_graph_jobs", (workflow_id,), _read_graph_jobs)


def _read_ids(rows: Sequence[Row], loads: JsonLoads) -> dict[str, int]:
    return {row[0]: row[1] for row in rows}


def _read_seconds(rows: Sequence[Row], loads: JsonLoads) -> dict[str, float]:
    return {row[0]: row[1] for row in rows}


def _read_graph_jobs(rows: Sequence[Row], loads: JsonLoads) -> list[GraphJob]:
    return [
        GraphJob(
            id=row[0],
            task_name=row[1],
            status=read_status(row[2]),
            created_at=utc(row[3]),
            node=row[4],
            workflow_id=row[5],
            run_when=RunWhen(row[6]),
            cancel_kind=None if row[7] is None else CancelKind(row[7]),
            started_at=utc_or_none(row[8]),
            finished_at=utc_or_none(row[9]),
        )
        for row in rows
    ]
