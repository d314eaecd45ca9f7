"""What a worker waits for, and how long."""

from __future__ import annotations

import pytest

from procrastinate_deps.exceptions import ConnectorException, LockNotAvailable, SchemaNotReady, UniqueViolation
from procrastinate_deps.worker.troubles import Backoff, passes_by_itself


def test_waits_grow_to_a_limit_and_are_spread() -> None:
    backoffs = [Backoff(0.1, 5.0) for _ in range(100)]
    for longest in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        waits = [backoff.next_s() for backoff in backoffs]
        assert longest / 2 <= min(waits) <= max(waits) <= longest
        assert len(set(waits)) > 90
    backoffs[0].reset()
    assert backoffs[0].next_s() <= 0.1


@pytest.mark.parametrize(
    ("sqlstate", "passes"),
    [
        (None, True),  # the connection could not be made, or was cut
        ("08006", True),
        ("40001", True),
        ("53300", True),  # too many connections
        ("57P01", True),  # the server stops
        ("57P03", True),  # it starts
        ("58030", True),
        ("25006", True),  # a standby
        ("26000", False),  # prepared statements behind a pooler
        ("42501", False),  # a right is missing
        ("22P02", False),
    ],
)
def test_what_passes_by_itself(sqlstate: str | None, passes: bool) -> None:
    assert passes_by_itself(ConnectorException("text", sqlstate=sqlstate)) is passes


def test_kinds_of_errors() -> None:
    assert passes_by_itself(LockNotAvailable("text", sqlstate="55P03"))
    assert not passes_by_itself(SchemaNotReady())
    assert not passes_by_itself(UniqueViolation("text"))
