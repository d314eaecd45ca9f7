"""`worker --processes N` where the workers can't start, or don't live long."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_process import Cli, environment
from tests.integration.supervised import children_of, supervised, wait_until_gone

if TYPE_CHECKING:
    from pathlib import Path

TWO = ("--processes", "2")
# Dies as it is imported for as long as there is a file `crash`, or fails for as long as there is one `broken`.
FRAGILE = """
import os
from pathlib import Path

from procrastinate_deps import App

if Path("crash").exists():
    os._exit(9)
if Path("broken").exists():
    raise RuntimeError("the app is broken")
app = App()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    return tmp_path


@pytest.mark.parametrize("arguments", [TWO, ("--reload",)], ids=" ".join)
def test_a_database_without_the_schema_ends_the_command_with_its_error(
    empty_dsn: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=empty_dsn, PROCRASTINATE_DEPS_APP="shop.app"))
    done = cli.run("worker", *arguments, "--log-level", "warning")
    assert "python -m procrastinate_deps migrate" in done.error


def test_an_app_that_cannot_be_imported_ends_the_command_with_its_error(dsn: str, folder: Path) -> None:
    (folder / "broken").touch()
    cli = Cli(folder, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="fragile.app"))
    assert "RuntimeError: the app is broken" in cli.run("worker", *TWO).error
    assert "no_such_module" in cli.run("--app", "no_such_module.app", "worker", *TWO).error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--processes", "0"],
        ["--processes", "-2"],
        ["--processes", "many"],
        ["--reload", "--one-shot"],
        ["--concurrency", "0", "--processes", "2"],
    ],
    ids=" ".join,
)
def test_what_was_typed_wrong(tmp_path: Path, arguments: list[str]) -> None:
    done = Cli(tmp_path, environment()).run("worker", *arguments)
    assert done.status == 2
    assert arguments[0] in done.err


def test_the_number_of_processes_comes_from_the_environment_too(dsn: str, tmp_path: Path) -> None:
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))
    done = cli.run("worker", "--one-shot", PROCRASTINATE_DEPS_WORKER_PROCESSES="2")
    assert done.status == 0
    # the app's own default for the name, with a number
    assert {"Worker from-the-app-1 has stopped", "Worker from-the-app-2 has stopped"} <= {
        line.partition(".worker: ")[2] for line in done.err.splitlines()
    }
    assert cli.run("worker", "--one-shot", PROCRASTINATE_DEPS_WORKER_PROCESSES="0").status == 2


def test_a_worker_that_dies_as_it_starts_is_tried_again_less_and_less_often(dsn: str, folder: Path) -> None:
    crash = folder / "crash"
    crash.touch()
    with supervised(dsn, folder, *TWO, "--name", "w", PROCRASTINATE_DEPS_APP="fragile.app") as command:
        for time, longest in enumerate((0.5, 1, 2), start=1):
            line = command.wait_for("worker process 1 .* ended with status 9; another starts in", times=time)
            assert longest / 2 - 0.1 <= float(line.split()[-2]) <= longest
            # the others wait until one has shown that it works
            assert "worker process 2" not in command.log
        crash.unlink()
        command.worker("w-1")
        command.worker("w-2")
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def test_a_worker_that_cannot_start_anymore_is_tried_again_while_the_others_go_on(dsn: str, folder: Path) -> None:
    with supervised(dsn, folder, *TWO, "--name", "w", PROCRASTINATE_DEPS_APP="fragile.app") as command:
        first, second = command.worker("w-1"), command.worker("w-2")
        (folder / "broken").touch()
        os.kill(first, signal.SIGKILL)
        command.wait_for("RuntimeError: the app is broken")
        command.wait_for("worker process 1 .* ended with status 1; another starts")
        assert children_of(command.pid).count(second) == 1
        (folder / "broken").unlink()
        command.worker("w-1", other_than=first)
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def test_a_signal_ends_the_command_while_a_worker_waits_for_its_next_try(dsn: str, folder: Path) -> None:
    (folder / "crash").touch()
    with supervised(dsn, folder, *TWO, PROCRASTINATE_DEPS_APP="fragile.app") as command:
        command.wait_for("another starts", times=4)  # in 2 to 4 s
        command.send(signal.SIGTERM)
        assert command.wait() == 0


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_worker_that_has_not_started_yet_ends_with_its_supervisor(
    dsn: str, tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    (tmp_path / "endless.py").write_text("import time\nprint('imports', flush=True)\ntime.sleep(600)\n")
    with supervised(dsn, tmp_path, *TWO, PROCRASTINATE_DEPS_APP="endless.app") as command:
        command.wait_for("imports")
        (child,) = children_of(command.pid)
        command.send(signum)
        assert command.wait() == status
        wait_until_gone(child)
