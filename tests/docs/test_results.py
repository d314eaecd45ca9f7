"""docs/results.md: what it shows works as it stands, and what it names exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import procrastinate_deps
from procrastinate_deps import App, JobContext, JobFailed
from procrastinate_deps.context import MAX_MESSAGE_LENGTH
from procrastinate_deps.statements import NOT_STORED
from procrastinate_deps.waiting import board
from procrastinate_deps.worker import outcomes, progress
from tests.docs.pages import REPOSITORY, follow

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/results.md"
TEXT = (REPOSITORY / PAGE).read_text()


def test_the_example(empty_dsn: str, tmp_path: Path) -> None:
    written = [done.stdout for _, done in follow(PAGE, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)]
    assert written[-2].splitlines() == [
        "{'lines': 3, 'orders': 2}",
        "job 3 failed: ValueError: an order without lines",
        "3 parcels",
    ]
    assert re.search(r"progress +3 of 3 \(100%\), .*: parcel 3\n", written[-1])
    assert '"3 parcels"' in written[-1]


def test_what_it_names_exists() -> None:
    for name in set(re.findall(r"context\.(\w+)", TEXT)):
        assert hasattr(JobContext, name), name
    for name in set(re.findall(r"app\.(wait_\w+)", TEXT)):
        assert hasattr(App, name), name
    for name in ("JobFailed", "JobNotFound", "EndlessWait", "NotStored"):
        assert f"`{name}`" in TEXT
        assert name in procrastinate_deps.__all__
    failed = JobFailed("")
    assert all(hasattr(failed, name) for name in ("status", "error", "cancel_kind", "reason"))
    assert f'"{NOT_STORED}"' in TEXT
    assert set(re.findall(r"`(\w+)` \(0 to 1", TEXT)) == {"fraction"}


def test_its_numbers_are_the_codes() -> None:
    assert outcomes.MAX_RESULT_BYTES == 1_000_000
    assert f"first {MAX_MESSAGE_LENGTH:,} characters" in " ".join(TEXT.split())
    assert f"after {board.POLL_FIRST_S * 1000:.0f} ms" in TEXT
    assert f"every {board.POLL_LIMIT_S:.0f} seconds" in TEXT
    assert 1 / progress.WRITE_INTERVAL_S == 2
    assert "twice a second" in TEXT


def test_the_page_is_linked() -> None:
    assert "(results.md)" in (REPOSITORY / "docs" / "README.md").read_text()
