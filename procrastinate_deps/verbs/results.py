"""Verbs: what parents returned."""

from __future__ import annotations

from typing import Any, Literal

from procrastinate_deps import statements
from procrastinate_deps.verbs.base import Call, one


def get_parent_results(job_id: int, by: Literal["id", "node"] = "id", connection: Any = None) -> Call[dict[Any, Any]]:
    """What the direct parents returned, in the order of their ids: `{parent_id: value}`.

    None for a parent that did not succeed, was deleted, or returned None; a `NotStored` for one whose result could not
    be stored.

    Parameters
    ----------
    by:
        "node": `{name: value}`, of those parents that have a name in their workflow. Default: "id".
    """
    return one(statements.parent_results(job_id, by), connection)
