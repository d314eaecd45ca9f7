"""What depends_on takes, and what it says of everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps.dependencies import MAX_JOB_ID, RunWhen, normalise_depends_on, run_when_value
from procrastinate_deps.exceptions import DependencyNotFound
from tests.unit.made_up import made_up_job

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Node:
    job_id: Any


class Task:
    name = "pkg.task"

    def defer(self) -> None: ...
    def configure(self) -> None: ...


async def coroutine() -> int:
    return 1


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        (None, []),
        ([], []),
        ((), []),
        (7, [7]),
        ([3, 1, 2], [3, 1, 2]),
        ([3, 1, 3, 3], [3, 1]),
        (made_up_job(id=5), [5]),
        (Node(6), [6]),
        ([made_up_job(id=5), 6, Node(7), Node(5)], [5, 6, 7]),
        ((n for n in (1, 2)), [1, 2]),
        ({4}, [4]),
    ],
)
def test_accepted(given: Any, ids: list[int]) -> None:
    assert normalise_depends_on(given) == ids


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [1, value]], ids=["alone", "in a list"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: True, "got the bool True: pass the id that defer"),
        (lambda: "7", "got the str '7': pass the id as an int"),
        (lambda: b"7", "got the bytes b'7': pass the id as an int"),
        (lambda: 1.5, r"got 1\.5: pass the id that defer"),
        (Task, r"got the task 'pkg\.task': a task is not a job"),
        (lambda: Task.defer, r"got the function Task\.defer: pass the id"),
        (lambda: coroutine(), r"to await: pass what `await \.\.\.defer_async\(\)` returns"),
        (lambda: Node(None), "got a Node whose job_id is None: it was not deferred yet"),
        (lambda: Node(True), "got a Node whose job_id is True"),
    ],
)
def test_refused(make: Callable[[], Any], message: str, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=f"^depends_on takes job ids.*{message}"):
        normalise_depends_on(wrap(make()))


def test_none_is_refused_inside_a_list_only() -> None:
    with pytest.raises(TypeError, match="got None"):
        normalise_depends_on([None])  # type: ignore[list-item]


@pytest.mark.parametrize("impossible", [0, -1, MAX_JOB_ID + 1])
def test_ids_that_no_job_can_have(impossible: int) -> None:
    with pytest.raises(DependencyNotFound) as refused:
        normalise_depends_on([impossible])
    assert refused.value.ids == (impossible,)


def test_run_when() -> None:
    assert run_when_value("any_failed") == "any_failed"
    assert run_when_value(RunWhen.ALL_FAILED) == "all_failed"
    with pytest.raises(ValueError, match="run_when='always' is not a rule; the rules are: all_finished, "):
        run_when_value("always")
