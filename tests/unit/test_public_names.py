"""What `import procrastinate_deps` gives, and what it spares."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import procrastinate_deps


def test_every_public_name_is_there() -> None:
    for name in procrastinate_deps.__all__:
        assert getattr(procrastinate_deps, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        procrastinate_deps.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_the_version() -> None:
    assert procrastinate_deps.__version__ == metadata.version("procrastinate-deps")


@pytest.mark.parametrize("module", ["psycopg", "asyncpg", "alembic", "sqlalchemy", "click", "rich", "croniter"])
def test_importing_brings_no_driver(module: str) -> None:
    """psycopg can't be imported on a machine without libpq, where asyncpg works; the others cost time."""
    script = f"import sys, procrastinate_deps; procrastinate_deps.App; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
