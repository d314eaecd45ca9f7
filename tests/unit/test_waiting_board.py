"""What is waited for, and what is asked of the database: without one."""

from __future__ import annotations

import itertools
import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from procrastinate_deps.jobs import Status
from procrastinate_deps.statements import JobEnd
from procrastinate_deps.waiting.board import (
    ANNOUNCED_S,
    POLL_LIMIT_S,
    RENEW_AFTER_S,
    Board,
    Kind,
    Round,
    Target,
    Wait,
)

DOING = JobEnd(status=Status.DOING)
ENDED = JobEnd(status=Status.FAILED)


def waiting(board: Board, job_id: int = 7) -> Wait:
    wait = Wait(Target(Kind.JOB, job_id), lambda: None)
    board.add(wait)
    return wait


def answered(round_: Round, answers: dict[str, Any]) -> list[str]:
    """Run a round to its end; the statements that it asked for."""
    names = []
    statement = next(round_, None)
    while statement is not None:
        names.append(statement.name)
        answer = answers.get(statement.name)
        try:
            statement = round_.send(answer(statement) if callable(answer) else answer)
        except StopIteration:
            break
    return names


def rows(statement: Any) -> dict[int, int]:
    return {job_id: 100 + job_id for job_id in statement.values[0]}


def test_asked_for_then_looked_at() -> None:
    board = Board()
    waits = [waiting(board), waiting(board), waiting(board, 8)]
    asked = answered(board.round(), {"watch_jobs": rows, "look_at_jobs": {7: ENDED, 8: DOING}})
    assert asked == ["watch_jobs", "look_at_jobs"]
    assert [wait.over for wait in waits] == [True, True, False]
    assert all(wait.looked for wait in waits)


def test_who_comes_while_a_look_is_under_way_is_not_answered_by_it() -> None:
    """What it sees may be older: a job that was run again in between has failed, for the look."""
    board = Board()
    first = waiting(board)
    late: list[Wait] = []

    def look(statement: Any) -> dict[int, JobEnd]:
        late.append(waiting(board))
        return {7: ENDED}

    answered(board.round(), {"watch_jobs": rows, "look_at_jobs": look})
    assert (first.over, late[0].over) == (True, False)
    assert board.due_in_s() <= 0


def test_what_is_heard_while_a_look_is_under_way_is_looked_at_again() -> None:
    board = Board()
    waiting(board)

    def look(statement: Any) -> dict[int, JobEnd]:
        assert board.hear('{"type": "job_ended", "job_id": 7, "status": "failed"}')
        return {7: DOING}

    answered(board.round(), {"watch_jobs": rows, "look_at_jobs": look})
    assert board.due_in_s() <= 0


def test_others_notifications_are_nothing() -> None:
    board = Board()
    waiting(board)
    answered(board.round(), {"watch_jobs": rows, "look_at_jobs": {7: DOING}})
    for payload in (
        "",
        "{",
        "[]",
        "[" * 7900,
        "7",
        '{"type": "job_ended", "job_id": 8}',
        '{"type": "workflow_ended", "workflow_id": 7}',
    ):
        assert not board.hear(payload)
    assert board.due_in_s() > 0


def test_a_round_that_was_cut_off_is_repeated() -> None:
    board = Board()
    wait = waiting(board)
    round_ = board.round()
    assert next(round_).name == "watch_jobs"
    round_.close()
    assert board.due_in_s() <= 0
    answered(board.round(), {"watch_jobs": rows, "look_at_jobs": {7: ENDED}})
    assert wait.over


def test_looks_become_rare_and_begin_anew_with_another_wait() -> None:
    board = Board()
    waiting(board)
    pauses = []
    for _ in range(10):
        answered(board.round(), {"watch_jobs": rows, "look_at_jobs": {7: DOING}})
        pauses.append(board.due_in_s())
        board.look_at_all()
    assert pauses[0] <= 0.05
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:7]))
    assert POLL_LIMIT_S / 2 < pauses[-1] <= POLL_LIMIT_S
    waiting(board)
    assert board.due_in_s() <= 0


def test_rows_are_taken_back_when_the_last_one_has_left() -> None:
    board = Board()
    waits = [waiting(board), waiting(board)]
    answered(board.round(), {"watch_jobs": rows, "look_at_jobs": {7: DOING}})
    board.remove(waits[0])
    assert answered(board.farewell(), {}) == []
    board.remove(waits[1])
    taken_back: list[Any] = []
    assert answered(board.farewell(), {"unwatch_jobs": lambda s: taken_back.append(s.values)}) == ["unwatch_jobs"]
    assert taken_back == [([107],)]
    assert board.due_in_s() == math.inf


def test_an_announcement_is_asked_for_again_before_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    waiting(board)

    def asked() -> list[str]:
        board.look_at_all()
        return answered(board.round(), {"watch_jobs": rows, "look_at_jobs": {7: DOING}})

    assert asked() == ["watch_jobs", "look_at_jobs"]
    assert asked() == ["look_at_jobs"]
    later = time.monotonic() + RENEW_AFTER_S
    monkeypatch.setattr("procrastinate_deps.waiting.board.time", SimpleNamespace(monotonic=lambda: later))
    assert asked() == ["watch_jobs", "look_at_jobs"]
    assert asked() == ["unwatch_jobs", "look_at_jobs"]  # the row before
    assert RENEW_AFTER_S + POLL_LIMIT_S < ANNOUNCED_S


def test_who_leaves_while_it_is_announced() -> None:
    board = Board()
    wait = waiting(board)

    def watch(statement: Any) -> dict[int, int]:
        board.remove(wait)
        return rows(statement)

    answered(board.round(), {"watch_jobs": watch, "look_at_jobs": {7: DOING}})
    assert answered(board.farewell(), {}) == ["unwatch_jobs"]
    assert board.due_in_s() == math.inf
