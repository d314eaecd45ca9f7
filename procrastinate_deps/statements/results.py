"""What parents returned, and how far runs have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from procrastinate_deps.statements.base import Row, Statement, read_values
from procrastinate_deps.statements.rows import read_result
from procrastinate_deps.validation import check_job_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.jsontext import JsonLoads


def parent_results(job_id: int, by: Literal["id", "node"] = "id") -> Statement[dict[Any, Any]]:
    """What the direct parents returned, in the order of their ids; None for one that is deleted or did not succeed."""
    if by == "id":
        return Statement("parent_results", (check_job_id(job_id),), _read_by_id)
    if by == "node":
        return Statement("parent_results", (check_job_id(job_id),), _read_by_node)
    raise ValueError(f"by={by!r}: pass 'id' or 'node'")


def set_progress(
    reports: Sequence[tuple[int, int, float, float | None, str | None]],
) -> Statement[list[int]]:
    """Store how far runs have come, each as (job_id, claim, done, total, message), of each job one.

    Returns the jobs whose rows were held by somebody: they are to be told again.
    """
    columns = [list(column) for column in zip(*reports, strict=True)]
    return Statement("set_progress", tuple(columns), read_values)


def _read_by_id(rows: Sequence[Row], loads: JsonLoads) -> dict[int, Any]:
    return {row[0]: read_result(row[2], loads) for row in rows}


def _read_by_node(rows: Sequence[Row], loads: JsonLoads) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for parent_id, node, result in rows:
        if node in results:
            raise ValueError(
                f"two parents are named {node!r}, in different workflows (the second is job {parent_id}): "
                "get the results by id"
            )
        if node is not None:
            results[node] = read_result(result, loads)
    return results
