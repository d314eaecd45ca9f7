"""docs/periodic.md and docs/middleware.md: what they show works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps.cli.program import program
from tests.docs.test_readme import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def follow(page: str, dsn: str, folder: Path) -> dict[str, str]:
    """Do what the page shows, in a folder with its Python in shop.py; what each command wrote."""
    (folder / "shop.py").write_text("\n\n".join(blocks(page, "python")))
    environment = os.environ | {"PROCRASTINATE_DEPS_DSN": dsn, "PYTHONPATH": str(folder)}
    written = {}
    (console,) = blocks(page, "console")
    for line in console.splitlines():
        command = shlex.split(line.removeprefix("$ "))
        if command[0] == "export":
            name, _, value = command[1].partition("=")
            environment[name] = value
            continue
        assert command[:3] == ["python", "-m", "procrastinate_deps"]
        assert command[3] in program.commands
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        written[command[3]] = done.stdout
    return written


def test_periodic(empty_dsn: str, tmp_path: Path) -> None:
    written = follow("periodic.md", empty_dsn, tmp_path)
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
    written = follow("middleware.md", empty_dsn, tmp_path)
    assert set(written["worker"].splitlines()) == {"charge took 0 s", "hello from job 2", "order 7 is packed"}
    assert '"ORDER 7 IS CHARGED"' in written["job-status"]


@pytest.mark.parametrize("page", ["periodic.md", "middleware.md"])
def test_the_page_is_linked(page: str) -> None:
    assert f"({page})" in (REPOSITORY / "docs" / "README.md").read_text()
