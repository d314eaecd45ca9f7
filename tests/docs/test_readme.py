"""The documents: their links lead somewhere, and what the README shows works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
README = REPOSITORY / "README.md"
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"the README has {len(found)} {language} blocks"
    return str(found[0])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_to_files_that_exist(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    missing = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert not missing


def test_the_example_of_the_readme(empty_dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("python"))
    environment = os.environ | {"PROCRASTINATE_DEPS_DSN": empty_dsn, "PYTHONPATH": str(tmp_path)}
    outputs = []
    for line in block("console").splitlines():
        assert line.startswith("$ ")
        command = shlex.split(line[2:])
        if command[0] == "export":
            name, _, value = command[1].partition("=")
            environment[name] = value
            continue
        assert command[0] == "python"
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    _, deferred, worked, listed = outputs
    assert deferred.strip() == "[1, 2, 3, 4]"
    lines = [line for line in worked.splitlines() if line.startswith("order 7")]
    assert set(lines[:2]) == {"order 7 is charged", "order 7 is packed"}
    assert lines[2:] == ["order 7 is shipped", "order 7: ['succeeded']"]
    assert listed.count("succeeded") == 4
