"""What a job may depend on, and when it then runs."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from procrastinate_deps.exceptions import DependencyNotFound

MAX_JOB_ID = 2**63 - 1


class RunWhen(StrEnum):
    """When a job with parents runs, decided once, when all of them are terminal. Else it is cancelled."""

    ALL_FINISHED = "all_finished"
    ALL_SUCCEEDED = "all_succeeded"
    ANY_SUCCEEDED = "any_succeeded"
    ANY_FAILED = "any_failed"
    ALL_FAILED = "all_failed"
    NONE_FAILED = "none_failed"


class HasJobId(Protocol):
    """Anything that stands for a job, as a `Job` or a workflow's node does: its `job_id` is the job's id."""

    @property
    def job_id(self) -> int: ...


class WorkflowPart:
    """What stands for jobs of a workflow: a node, several of them, or the whole of it.

    `procrastinate_deps.workflows` has them. A job of the same workflow can depend on one before anything is sent.
    """

    __slots__ = ()

    @abstractmethod
    def sent_ids(self) -> tuple[Sequence[int], Sequence[int]]:
        """The ids of the jobs, and of the whole workflows, that it stands for. Raises NotSentYet."""


Parent: TypeAlias = int | HasJobId | WorkflowPart
DependsOn: TypeAlias = Parent | Iterable[Parent] | None


def normalise_depends_on(depends_on: DependsOn) -> list[int]:
    """The ids of the jobs that `depends_on` means, each once, in the given order.

    Parameters
    ----------
    depends_on:
        Job ids, `Job` objects and anything with an integer `job_id`, mixed; a lone one without a list too. None and an
        empty list mean no parents.

    Raises
    ------
    TypeError
        For anything else (a task, a function, a bool, a string, a None in the list); it says what to pass instead.
    """
    if depends_on is None:
        return []
    if (
        isinstance(depends_on, (bool, str, bytes))
        or _stands_for_a_job(depends_on)
        or not isinstance(depends_on, Iterable)
    ):
        return [_job_id(depends_on)]
    return list(dict.fromkeys(_job_id(parent) for parent in depends_on))


def split_depends_on(depends_on: DependsOn) -> tuple[list[int], list[WorkflowPart]]:
    """What `depends_on` means: ids of jobs, as `normalise_depends_on` gives them, and parts of workflows."""
    if depends_on is None:
        return [], []
    if isinstance(depends_on, WorkflowPart):
        return [], [depends_on]
    if isinstance(depends_on, Iterable) and not isinstance(depends_on, (str, bytes)):
        given = list(depends_on)
        parts = [parent for parent in given if isinstance(parent, WorkflowPart)]
        if len(parts) == len(given):
            return [], parts
        return normalise_depends_on([each for each in given if not isinstance(each, WorkflowPart)]), parts
    return normalise_depends_on(depends_on), []


def run_when_value(run_when: RunWhen | str) -> str:
    """The rule's name, checked. Raises ValueError for a rule that doesn't exist."""
    try:
        return RunWhen(run_when).value
    except ValueError:
        rules = ", ".join(rule.value for rule in RunWhen)
        raise ValueError(f"run_when={run_when!r} is not a rule; the rules are: {rules}") from None


def _stands_for_a_job(value: Any) -> bool:
    return isinstance(value, int) or hasattr(value, "job_id")


def _job_id(parent: Any) -> int:
    # a bool is an int to Python, and True would mean job 1
    given = parent if isinstance(parent, int) else getattr(parent, "job_id", None)
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"depends_on takes job ids, Job objects or workflow nodes; {_what_instead(parent)}")
    if not 0 < given <= MAX_JOB_ID:
        raise DependencyNotFound(f"job {given} can't exist: ids are positive and fit in 64 bits", ids=[given])
    return given


def _what_instead(parent: Any) -> str:
    if parent is None:
        return "got None: leave out what was not deferred"
    if isinstance(parent, bool):
        return f"got the bool {parent}: pass the id that defer() returned"
    if isinstance(parent, (str, bytes)):
        return f"got the {type(parent).__name__} {parent!r}: pass the id as an int"
    if inspect.isawaitable(parent):
        if inspect.iscoroutine(parent):
            parent.close()  # else Python warns about it, on top of this error
        return "got something to await: pass what `await ...defer_async()` returns"
    if hasattr(parent, "defer") and hasattr(parent, "configure"):
        name = getattr(parent, "name", parent)
        return f"got the task {name!r}: a task is not a job; pass the id that its defer() returned"
    if isinstance(parent, WorkflowPart):
        return f"got {parent!r}: only configure(depends_on=...) takes more of a workflow than one job"
    if hasattr(parent, "job_id"):
        return f"got a {type(parent).__name__} whose job_id is {parent.job_id!r}: it was not deferred yet"
    if callable(parent):
        name = getattr(parent, "__qualname__", repr(parent))
        return f"got the function {name}: pass the id that the task's defer() returned"
    return f"got {parent!r}: pass the id that defer() returned"
