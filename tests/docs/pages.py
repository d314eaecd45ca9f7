"""What a page shows, and doing it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The code blocks in a language; `page` is a path in the repository."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (REPOSITORY / page).read_text(), re.DOTALL | re.MULTILINE)


def block(page: str, language: str) -> str:
    """The only code block in a language."""
    found = blocks(page, language)
    assert len(found) == 1, f"{page} has {len(found)} {language} blocks"
    return found[0]


def follow(page: str, folder: Path, **environment: str) -> list[tuple[list[str], subprocess.CompletedProcess[str]]]:
    """Do what the page's console block shows, in a folder with its Python in shop.py: each command and its end."""
    (folder / "shop.py").write_text("\n\n".join(blocks(page, "python")))
    variables = os.environ | {"PYTHONPATH": str(folder)} | environment
    done = []
    for line in block(page, "console").splitlines():
        command = shlex.split(line.removeprefix("$ "))
        if command[0] == "export":
            name, _, value = command[1].partition("=")
            variables[name] = value
            continue
        assert command[0] == "python"
        ended = subprocess.run(
            [sys.executable, *command[1:]], cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{line}\n{ended.stdout}\n{ended.stderr}"
        done.append((command, ended))
    return done
