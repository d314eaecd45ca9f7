"""What must have become of each job, by the rules of the contract and nothing of the product's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

# A terminal status, and the kind where it is cancelled.
End: TypeAlias = tuple[str, str | None]

SUCCEEDED: End = ("succeeded", None)
FAILED: End = ("failed", None)
MANUAL: End = ("cancelled", "manual")
UPSTREAM: End = ("cancelled", "upstream")
NOT_NEEDED: End = ("cancelled", "not_needed")

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "aborted"})


def is_unsuccessful(end: End) -> bool:
    return end[0] != "succeeded"


def counts_as_failure(end: End) -> bool:
    """For the rules that ask for failures: a parent that wasn't needed is none."""
    return is_unsuccessful(end) and end != NOT_NEEDED


def runs(rule: str, parents: Sequence[End]) -> bool:
    """Whether a job with these parents, all of them ended, runs."""
    if not parents:
        return True
    match rule:
        case "all_finished":
            return True
        case "all_succeeded":
            return not any(map(is_unsuccessful, parents))
        case "any_succeeded":
            return not all(map(is_unsuccessful, parents))
        case "any_failed":
            return any(map(counts_as_failure, parents))
        case "all_failed":
            return all(map(counts_as_failure, parents))
        case "none_failed":
            return not any(end[0] in ("failed", "aborted") or end == UPSTREAM for end in parents)
    raise ValueError(f"no such rule: {rule}")


def cancelled_as(rule: str) -> End:
    return NOT_NEEDED if rule in ("any_failed", "all_failed") else UPSTREAM
