"""Workers on hosts whose clocks are hours wrong: everything goes by the database's."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos import fire
from tests.chaos.graphs import QUEUES, Node
from tests.chaos.sizes import acts
from tests.chaos.tasks import LATER_S

if TYPE_CHECKING:
    from tests.chaos.crew import Hand
    from tests.chaos.trial import NewTrial

LIBRARY = "faketime/libfaketimeMT.so.1"
FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
SHIFTED = "SELECT id, scheduled_at FROM procrastinate_deps.jobs WHERE scheduled_at > now() + interval '1 minute'"
# One that was put back, by a worker that was killed or had no slot for it, starts as soon as it can.
DELAYS = """
    SELECT extract(epoch FROM j.scheduled_at - j.created_at)::float8,
        EXISTS (SELECT FROM procrastinate_deps.job_events AS e
                WHERE e.job_id = j.id AND e.type IN ('rescued', 'requeued')) AS put_back
    FROM procrastinate_deps.jobs AS j
    WHERE j.task_name = 'echo'
"""
TOLERANCE_S = 10


@pytest.fixture
def faketime() -> Path:
    found = [path for folder in FOLDERS if (path := Path(folder, LIBRARY)).exists()]
    if not found:
        message = "libfaketime is not installed (Debian: apt-get install faketime)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{message}, and CI must test with it")
        pytest.skip(message)
    return found[0]


class Clock:
    """What the processes that start with its environment take for the time; it can be set again while they run."""

    def __init__(self, library: Path, file: Path, off_by: str) -> None:
        self._file = file
        self.set(off_by)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            # A host's clock is set, its count of seconds goes on.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, off_by: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{off_by}\n")
        new.replace(self._file)


def hours_off(hand: Hand) -> set[int]:
    """By how many hours the times in its log are wrong."""
    now = datetime.now(UTC)
    times = [datetime.fromisoformat(record["time"]) for record in hand.records() if "time" in record]
    return {round((time - now) / timedelta(hours=1)) for time in times}


def test_clocks_are_hours_wrong(trial: NewTrial, faketime: Path, tmp_path: Path) -> None:
    """One is ahead, and is set back half-way to where it is behind; one is behind all the time."""
    made = trial(acts=acts(4))
    # Where the clock is wrong, one way and the other, it is said when jobs are retried, and jobs deferred for later.
    decided = [
        Node(number=-n, kind=kind, sync=kind == "patient" and n % 4 < 2, failures=2, queue=("behind", "ahead")[n % 2])
        for n, kind in enumerate(["patient"] * 8 + ["later"] * 4, 1)
    ]
    made.nodes = [*decided, *made.nodes]
    made.waves[0] = [*decided, *made.waves[0]]
    ahead, behind = Clock(faketime, tmp_path / "ahead", "+5h"), Clock(faketime, tmp_path / "behind", "-3h")
    queues = sorted(set(QUEUES))
    made.crew.start("right", "asyncpg", queues=queues)
    made.crew.start("ahead", "asyncpg", queues=[*queues, "ahead"], environment=ahead.environment)
    made.crew.start("behind", "psycopg", queues=[*queues, "behind"], environment=behind.environment)
    made.crew.wait_until_working()
    strikes = iter(range(made.acts))

    def act() -> None:
        strike = next(strikes)
        if strike == 1:
            # Its jobs are taken back by those who think that hours have passed, or none.
            fire.kill_one(made)
        if strike == made.acts // 2:
            made.wait_for_row("running jobs", fire.SOMETHING_RUNS)
            ahead.set("-2h")

    made.burn(act)
    assert made.query(SHIFTED) == [], "jobs were scheduled by a wrong clock"
    made.judge()
    delays = made.query(DELAYS)
    assert len(delays) == 4
    assert all(put_back or abs(delay - LATER_S) < TOLERANCE_S for delay, put_back in delays), delays
    assert {5, -2} <= hours_off(made.crew.hands["ahead"])
    assert hours_off(made.crew.hands["behind"]) == {-3}
