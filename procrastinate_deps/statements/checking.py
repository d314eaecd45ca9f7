"""Whether every invariant holds, and mending what does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from procrastinate_deps.invariants import Swept, Violation
from procrastinate_deps.statements.base import Row, Statement, read_value, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from procrastinate_deps.jsontext import JsonLoads


def violations() -> Statement[list[Violation]]:
    """The invariants that are broken, counted in one snapshot of all tables; none in a healthy database."""
    return Statement("violations", (), _read_violations)


def broken_invariants(max_ids: int) -> Statement[dict[str, list[int]]]:
    """The invariants that are broken, each with up to so many ids of jobs or workflows."""
    return Statement("broken_invariants", (max_ids,), _read_ids)


def repair(invariant: str, ids: Sequence[int]) -> Statement[list[int]]:
    """Mend what breaks this invariant, where it still does; the ids that were mended."""
    return Statement("repair", (invariant, list(ids)), read_value)


def begin_sweep(worker_id: int, every: timedelta | float) -> Statement[bool]:
    """Whether this worker may sweep now: no other one has begun to within so much time."""
    return Statement("begin_sweep", (worker_id, seconds(every)), read_value)


def sweep_blocked(after: int) -> Statement[Swept[int]]:
    """Look at some blocked jobs, and mend their counters."""
    return Statement("sweep_blocked", (after,), _read_swept)


def sweep_locks(after: str) -> Statement[Swept[str]]:
    """Look at some locks, and mend their lines."""
    return Statement("sweep_locks", (after,), _read_swept)


def sweep_workflows(after: int) -> Statement[Swept[int]]:
    """Look at some unfinished workflows, and mend their counts."""
    return Statement("sweep_workflows", (after,), _read_swept)


def _read_violations(rows: Sequence[Row], loads: JsonLoads) -> list[Violation]:
    return [Violation(invariant=row[0], jobs=row[1], examples=list(row[2])) for row in rows]


def _read_ids(rows: Sequence[Row], loads: JsonLoads) -> dict[str, list[int]]:
    return {row[0]: list(row[1]) for row in rows}


def _read_swept(rows: Sequence[Row], loads: JsonLoads) -> Swept[Any]:
    return Swept(reached=rows[0][0], repaired={name: ids for name, ids in json.loads(rows[0][1]).items() if ids})
