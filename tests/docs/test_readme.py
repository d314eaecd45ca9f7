"""The documents: their links lead somewhere, and what the README shows works as it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import REPOSITORY, follow

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_to_files_that_exist(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    missing = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert not missing


def test_the_example_of_the_readme(empty_dsn: str, tmp_path: Path) -> None:
    outputs = [done.stdout for _, done in follow("README.md", tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)]
    _, deferred, worked, listed = outputs
    assert deferred.strip() == "[1, 2, 3, 4]"
    lines = [line for line in worked.splitlines() if line.startswith("order 7")]
    assert set(lines[:2]) == {"order 7 is charged", "order 7 is packed"}
    assert lines[2:] == ["order 7 is shipped", "order 7: ['succeeded']"]
    assert listed.count("succeeded") == 4
