"""docs/demos.md: its commands work as they stand, and its table has every demo and no other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from procrastinate_deps.demos import catalogue
from procrastinate_deps.dependencies import RunWhen
from tests.docs.pages import REPOSITORY, follow

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/demos.md"
TEXT = (REPOSITORY / PAGE).read_text()


def test_the_commands(empty_dsn: str, tmp_path: Path) -> None:
    outputs = [done.stdout for _, done in follow(PAGE, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)]
    table, recovery, mapped, wide, listed = outputs
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(catalogue.NAMES)
    assert "All as expected." in recovery
    assert "All as expected." in mapped
    assert "300 of 300 have ended" in wide
    assert listed.count("demos.recovery") == 7


def test_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", TEXT, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(catalogue.NAMES)
    rules = {rule for _, _, shows in rows for rule in re.findall(r"`(a[ln][ly]_\w+)`", shows)}
    assert rules
    assert rules <= {each.value for each in RunWhen}
    for _, _, shows in rows:
        for option in re.findall(r"`--([a-z-]+)", shows):
            names = {name for demo in catalogue.NAMES for each in catalogue.load(demo).options for name in each.opts}
            assert f"--{option}" in names
