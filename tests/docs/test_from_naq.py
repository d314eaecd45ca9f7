"""docs/from-naq.md: its example works as it stands, and every name in its table exists."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

from procrastinate_deps.contrib import naq
from procrastinate_deps.contrib.naq import apps
from procrastinate_deps.contrib.naq.payloads import HANDLING_NAMES
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.jobs import Status
from tests.docs.pages import REPOSITORY, follow

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PAGE = "docs/from-naq.md"
TEXT = (REPOSITORY / PAGE).read_text()


def test_the_example(empty_dsn: str, tmp_path: Path) -> None:
    outputs = [done.stdout for _, done in follow(PAGE, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)]
    _, _, enqueued, worked, listed, explained = outputs
    assert "'status': 'blocked', 'dependencies': {5: 'todo', 6: 'todo'}" in enqueued
    assert worked.splitlines() == ["told ann, bob"] * 2
    ends = [line.split()[1] for line in listed.splitlines()[1:]]
    assert ends == ["succeeded"] * 4 + ["succeeded", "failed", "cancelled", "succeeded"]
    assert "ConnectionError: down can't be reached" in explained
    assert "attempts       3" in explained


def test_the_app_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "_current", apps._current)
    (code,) = re.findall(r"^  ```python\n(.*?)^  ```$", TEXT, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code), names)
    assert names["app"].modules == ("shop",)
    assert apps.current_app() is names["app"]


def test_what_the_table_names_exists() -> None:
    left, right = zip(*re.findall(r"^\| (.*?) \| (.*) \|$", TEXT, re.MULTILINE), strict=True)
    options = set(re.findall(r"`?(\w+)=", " ".join(left))) - {"nats_url", "NAQ_JOB_SERIALIZER", "level"}
    own = {"depends_on", "run_after_failure", "allow_partial_dependencies", "queue_name"}
    assert options <= HANDLING_NAMES | own
    # the one that stands without its "="
    assert options | {"timeout"} == HANDLING_NAMES | own
    assert set(re.findall(r'run_when="(\w+)"', TEXT)) <= {each.value for each in RunWhen}
    statuses = next(cell for cell in right if "`blocked`" in cell)
    assert re.findall(r"`(\w+)`", statuses) == [each.value for each in Status]
    for name in ("enqueue", "enqueue_sync", "SyncClient", "EnqueuedJob", "get_job_status_sync", "setup_logging"):
        assert name in TEXT
        assert name in naq.__all__
    assert naq.MODULES_VARIABLE in TEXT
