"""Several worker processes and a task for each second: none twice, none left out, also when one of them is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.worker_helpers import query
from tests.integration.worker_process import wait_for_row

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]
WORKERS = 3
PERIODS = 4


@contextlib.contextmanager
def worker(dsn: str, name: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "procrastinate_deps", "--app", "tests.acceptance.periodic_app.app"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "worker", "--name", name, "--log-level", "debug"],
            cwd=REPO,
            env=os.environ | {"PROCRASTINATE_DEPS_DSN": dsn},
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def more_periods(dsn: str, count: int) -> None:
    """Wait until so many more of them have been run."""
    (ended,) = query(dsn, "SELECT count(*) FROM procrastinate_deps.jobs WHERE status = 'succeeded'")[0]
    wait_for_row(
        dsn,
        "SELECT FROM procrastinate_deps.jobs WHERE status = 'succeeded' HAVING count(*) >= %s",
        ended + count,
    )


def test_each_timestamp_exactly_once(dsn: str, tmp_path: Path) -> None:
    logs = [tmp_path / f"log{number}" for number in range(WORKERS)]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(worker(dsn, f"w{n}", log)) for n, log in enumerate(logs)]
        wait_for_row(dsn, f"SELECT FROM procrastinate_deps.workers HAVING count(*) = {WORKERS}")
        more_periods(dsn, PERIODS)
        workers[0].kill()
        more_periods(dsn, PERIODS)
        for each in workers[1:]:
            each.send_signal(signal.SIGTERM)
        assert [each.wait(60) for each in workers[1:]] == [0] * (WORKERS - 1)

    rows = query(dsn, "SELECT (args ->> 'timestamp')::bigint FROM procrastinate_deps.jobs ORDER BY id")
    timestamps = [row[0] for row in rows]
    assert timestamps == list(range(timestamps[0], timestamps[0] + len(timestamps)))
    assert len(timestamps) >= 2 * PERIODS
    early = "SELECT id FROM procrastinate_deps.jobs WHERE created_at < to_timestamp((args ->> 'timestamp')::bigint)"
    assert query(dsn, early) == []
    for log in logs:
        assert "dealt with" in log.read_text() or "deferred job" in log.read_text(), "this one took no part"
