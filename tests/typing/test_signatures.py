"""A task's own parameters survive: `defer` and `configure` are typed by them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent.parent
SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.py"))
IGNORED = re.compile(r"  # type: ignore\[([a-z, -]+)\]$", re.MULTILINE)


def run_mypy(path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", str(cache), str(path)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def mypy_cache(pytestconfig: pytest.Config) -> Path:
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("mypy")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_is_typed_as_it_says(sample: Path, mypy_cache: Path) -> None:
    done = run_mypy(sample, mypy_cache)
    assert done.stdout == ""
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_each_error_in_the_sample_is_seen(sample: Path, mypy_cache: Path, tmp_path: Path) -> None:
    """Without the ignores, mypy complains in exactly the lines that had one, by exactly those codes."""
    text = sample.read_text()
    expected = {
        (number, code)
        for number, line in enumerate(text.splitlines(), 1)
        for codes in IGNORED.findall(line)
        for code in codes.split(", ")
    }
    copy = tmp_path / "bare_sample.py"
    copy.write_text(IGNORED.sub("", text))
    done = run_mypy(copy, mypy_cache)
    found = re.findall(r"bare_sample\.py:(\d+): error: .* \[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert {(int(number), code) for number, code in found} == expected, done.stdout
    assert len(expected) > 10
