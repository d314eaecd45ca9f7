"""Verbs: whether every invariant holds, and mending what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.invariants import INVARIANTS, Repair, Violation
from procrastinate_deps.verbs.base import Call, Steps, one

if TYPE_CHECKING:
    from procrastinate_deps.jsontext import JsonDumps

BATCH = 200
"""How many jobs one statement mends: a larger one would hold its locks for too long."""

MAX_FOUND = 100_000
"""How many of each invariant one look finds."""

MAX_ROUNDS = 100
EXAMPLES = 5


def check(connection: Any = None) -> Call[list[Violation]]:
    """Every invariant counted against the tables, in one snapshot: none is listed in a healthy database.

    They hold in every committed state, so that nothing has to be stopped to ask. It reads all jobs.
    """
    return one(statements.violations(), connection)


def repair(connection: Any = None) -> Call[list[Repair]]:
    """Mend what breaks an invariant, in small batches, while everything else goes on; what was mended, by invariant.

    Jobs that wait for nobody are decided, lines of locks handed on, counts made anew. Each is looked at again under the
    locks by which it could change: a healthy database stays as it is. `check` afterwards says what is left: where
    somebody held a lock for long, or two jobs of one lock run, say.
    """

    def steps(json_dumps: JsonDumps) -> Steps[list[Repair]]:
        mended: dict[str, list[int]] = {}
        for _ in range(MAX_ROUNDS):
            found: dict[str, list[int]] = yield statements.broken_invariants(MAX_FOUND)
            before = sum(map(len, mended.values()))
            for invariant in sorted(found, key=INVARIANTS.index):
                ids = found[invariant]
                for start in range(0, len(ids), BATCH):
                    repaired: list[int] = yield statements.repair(invariant, ids[start : start + BATCH])
                    mended.setdefault(invariant, []).extend(repaired)
            if sum(map(len, mended.values())) == before:
                break
        return [
            Repair(invariant=invariant, jobs=len(ids), examples=ids[:EXAMPLES])
            for invariant, ids in mended.items()
            if ids
        ]

    return Call(steps, connection)
