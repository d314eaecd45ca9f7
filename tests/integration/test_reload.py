"""`worker --reload`: the code that runs is that of the files."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.cli_process import REPO, Cli, environment
from tests.integration.supervised import supervised
from tests.integration.worker_helpers import query
from tests.integration.worker_process import EFFECTS, wait_for_row

STATUS = "SELECT 1 FROM procrastinate_deps.jobs WHERE id = %s AND status = %s"
RESULT = "SELECT result FROM procrastinate_deps.jobs WHERE id = %s AND status = 'succeeded'"

CODE = """
from tests.integration.worker_process import app
from versions import VERSION

@app.task(name="version")
async def version() -> str:
    return VERSION
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "code.py").write_text(CODE)
    write_version(tmp_path / "project", "first")
    return tmp_path / "project"


def write_version(folder: Path, version: str) -> None:
    (folder / "versions.py").write_text(f"VERSION = {version!r}\n")


def version_now(app: App, dsn: str) -> str:
    return str(wait_for_row(dsn, RESULT, app.configure_task("version").defer())[0])


def test_new_code_runs_when_the_running_job_has_ended(dsn: str, folder: Path) -> None:
    query(dsn, EFFECTS)
    with (
        App(SyncPsycopgConnector(conninfo=dsn)).open() as app,
        supervised(dsn, folder, "--reload", "--name", "w", PROCRASTINATE_DEPS_APP="code.app") as command,
    ):
        assert version_now(app, dsn) == "first"
        running = app.configure_task("wait_for_go").defer()
        (before,) = wait_for_row(dsn, "SELECT pid FROM effects WHERE job_id = %s", running)
        write_version(folder, "second")
        assert "versions.py changed: replacing the workers" in command.wait_for("changed")
        query(dsn, "INSERT INTO go VALUES (%s)", running)
        wait_for_row(dsn, STATUS, running, "succeeded")
        assert version_now(app, dsn) == "second"
        after = command.worker("w", other_than=before)

        # Code that can't be imported: nothing runs until it can.
        (folder / "versions.py").write_text("VERSION =\n")
        command.wait_for("could not start; waiting for a change of the code")
        write_version(folder, "third")
        assert version_now(app, dsn) == "third"
        command.worker("w", other_than=after)
        command.send(signal.SIGINT)
        assert command.wait() == 0


def test_several_processes_are_replaced(dsn: str, folder: Path) -> None:
    with supervised(
        dsn, folder, "--reload", "--processes", "2", "--name", "w", PROCRASTINATE_DEPS_APP="code.app"
    ) as command:
        before = [command.worker(name) for name in ("w-1", "w-2")]
        # What is no code is no reason.
        (folder / "notes.txt").write_text("nothing")
        (folder / "versions.py").touch()
        for name, pid in zip(("w-1", "w-2"), before, strict=True):
            command.worker(name, other_than=pid)
        command.send(signal.SIGTERM)
        assert command.wait() == 0
        assert "notes" not in command.log


def test_without_watchfiles_the_error_says_what_to_install(dsn: str, folder: Path) -> None:
    missing = folder.parent / "missing"
    missing.mkdir()
    (missing / "watchfiles.py").write_text("raise ImportError('not here')\n")
    env = environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app", PYTHONPATH=f"{missing}:{REPO}")
    assert "install procrastinate-deps[reload]" in Cli(folder, env).run("worker", "--reload").error
