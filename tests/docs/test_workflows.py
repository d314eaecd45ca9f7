"""docs/workflows.md, and what the README says of workflows: it works as it stands."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.docs.pages import REPOSITORY, blocks, follow

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page(empty_dsn: str, tmp_path: Path) -> None:
    _, sent, worked, looked = follow("docs/workflows.md", tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)
    assert sent[1].stdout.splitlines() == ["workflow 1 load is job 4"]
    lines = worked[1].stdout.splitlines()
    assert "report: ['succeeded']" in lines
    assert "total: 8" in lines
    shown = looked[1].stdout.splitlines()
    assert shown[:6] == [
        "etl succeeded 100%",
        "succeeded 5 of 5",
        "joined succeeded 100%",
        "succeeded 8 of 8",
        "grown succeeded 100%",
        "succeeded 16 of 16",
    ]
    assert shown[6] == "flowchart LR"
    assert '    j4["load (4)"]' in shown
    assert shown[-1].startswith("critical path: ['shop.extract', 'load', 'report']")


def test_the_readme(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("\n\n".join(blocks("README.md", "python")))
    script = "import anyio, shop; anyio.run(shop.place_orders)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PROCRASTINATE_DEPS_DSN": dsn, "PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "workflow 1: 9 jobs\n"


def test_the_page_is_linked() -> None:
    assert "(workflows.md)" in (REPOSITORY / "docs" / "README.md").read_text()
    assert "(docs/workflows.md)" in (REPOSITORY / "README.md").read_text()
