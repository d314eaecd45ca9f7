"""docs/operations.md: what it shows works as it stands, and what it names exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from procrastinate_deps.jobs import Status
from procrastinate_deps.manager import JobManager
from procrastinate_deps.worker import outcomes, pruner, statistics, watchdog
from tests.docs.pages import REPOSITORY, follow
from tests.docs.test_workers import worker_options

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/operations.md"
TEXT = (REPOSITORY / PAGE).read_text()


def test_the_example(empty_dsn: str, tmp_path: Path) -> None:
    outputs = [done.stdout for _, done in follow(PAGE, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)]
    reported, pruned, listed = outputs[-3:]
    for line, status in zip(reported.splitlines(), ("failed", "succeeded"), strict=True):
        assert re.fullmatch(rf"shop\.charge {status}: 1 runs, 95 % within \d+\.\d ms", line)
    assert pruned == "1 job deleted\n"
    assert listed.count("shop.charge") == 1
    assert "failed" in listed


def test_what_it_names_exists() -> None:
    flags = set(re.findall(r"`worker (--[a-z-]+)|`(--blocked[a-z-]+)", TEXT))
    assert {flag for pair in flags for flag in pair if flag} <= set(worker_options())
    verbs = set(re.findall(r"job_manager\.(\w+)", TEXT))
    assert {"get_stats", "prune_jobs", "delete_old_jobs", "list_workers"} <= verbs
    assert all(hasattr(JobManager, verb) for verb in verbs)
    assert set(re.findall(r"--status (\w+)", TEXT)) <= {each.value for each in Status}


def test_its_numbers_are_the_codes() -> None:
    for number, said in (
        (statistics.SEND_INTERVAL_S, r"every 10 seconds"),
        (statistics.KEPT_FOR.days, r"kept for 7 days"),
        (statistics.PRUNE_BATCH, r"1,000 rows at a time"),
        (statistics.MAX_UNSENT_ROWS, r"keeps 20,000 rows"),
        (statistics.MAX_TALLIES, r"more than 1,000 different"),
        (pruner.INTERVAL_S / 60, r"looks every 5 minutes"),
        (watchdog.REPEAT_AFTER_S / 60, r"in 5 minutes"),
        (outcomes.MAX_ERROR_BYTES / 1000, r"up to 100 kB"),
        (outcomes.MAX_RESULT_BYTES / 1_000_000, r"more than 1 MB"),
    ):
        assert re.search(said, TEXT), said
        assert f"{number:,.0f}" in said
