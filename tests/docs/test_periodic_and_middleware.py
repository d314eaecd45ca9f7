"""docs/periodic.md and docs/middleware.md: what they show works as it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import REPOSITORY, follow

if TYPE_CHECKING:
    from pathlib import Path


def written_by(page: str, dsn: str, folder: Path) -> dict[str, str]:
    """What each command of the page wrote."""
    done = follow(f"docs/{page}", folder, PROCRASTINATE_DEPS_DSN=dsn)
    return {command[3]: ended.stdout for command, ended in done}


def test_periodic(empty_dsn: str, tmp_path: Path) -> None:
    written = written_by("periodic.md", empty_dsn, tmp_path)
    assert re.search(r"^the stock at \d\d:\d[05]$", written["worker"], re.MULTILINE)
    lines = written["list-periodic"].splitlines()
    tasks = [line.split()[:2] for line in lines[1:]]
    assert tasks == [
        ["shop.count_stock", "-"],
        ["shop.order_more", "hats"],
        ["shop.order_more", "shoes"],
        ["shop.report", "-"],
    ]
    assert "succeeded" in lines[1]
    assert "Europe/Paris" in lines[4]


def test_middleware(empty_dsn: str, tmp_path: Path) -> None:
    written = written_by("middleware.md", empty_dsn, tmp_path)
    assert set(written["worker"].splitlines()) == {"charge took 0 s", "hello from job 2", "order 7 is packed"}
    assert '"ORDER 7 IS CHARGED"' in written["job-status"]


@pytest.mark.parametrize("page", ["periodic.md", "middleware.md"])
def test_the_page_is_linked(page: str) -> None:
    assert f"({page})" in (REPOSITORY / "docs" / "README.md").read_text()
