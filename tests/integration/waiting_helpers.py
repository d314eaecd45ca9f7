"""What the tests of waiting share."""

from __future__ import annotations

import time
from typing import Any

from tests.integration.worker_helpers import DEADLINE_S, query

LISTENING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%' AND state = 'idle'"
)


def listening(dsn: str) -> list[int]:
    return [row[0] for row in query(dsn, LISTENING)]


def waited_for(dsn: str) -> list[int]:
    return [row[0] for row in query(dsn, "SELECT job_id FROM procrastinate_deps.job_waits ORDER BY job_id")]


def wait_until_heard(dsn: str, *job_ids: int) -> None:
    """Until somebody listens, and has asked for the ends of these jobs to be announced. For other threads."""
    deadline = time.monotonic() + DEADLINE_S
    while not (listening(dsn) and set(job_ids) <= set(waited_for(dsn))):
        if time.monotonic() > deadline:
            raise AssertionError(f"nobody listens: {listening(dsn)}, waits for {waited_for(dsn)}")
        time.sleep(0.005)


def end(dsn: str, *job_ids: int, status: str = "succeeded", result: Any = 1, error: str | None = None) -> None:
    """End jobs as a person may, in plain SQL."""
    query(
        dsn,
        "UPDATE procrastinate_deps.jobs SET status = %s::procrastinate_deps.job_status, finished_at = now(),"
        " result = to_jsonb(%s::int), error = %s, cancel_kind = %s::procrastinate_deps.cancel_kind"
        " WHERE id = ANY (%s)",
        status,
        result,
        error,
        "manual" if status == "cancelled" else None,
        list(job_ids),
    )


def kill(dsn: str, pids: list[int]) -> None:
    query(dsn, "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", pids)


def traces(dsn: str) -> tuple[list[int], list[int]]:
    """What waiting leaves behind: connections that listen, and rows."""
    return listening(dsn), waited_for(dsn)


def until_no_trace(dsn: str) -> None:
    """A backend's end is seen a moment after its connection's."""
    deadline = time.monotonic() + DEADLINE_S
    while traces(dsn) != ([], []):
        if time.monotonic() > deadline:
            raise AssertionError(f"waiting left behind: {traces(dsn)}")
        time.sleep(0.005)
