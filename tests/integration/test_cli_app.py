"""Where the command line finds the app, and what it says where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli_process import Cli, environment


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


def project(folder: Path, table: str) -> None:
    (folder / "pyproject.toml").write_text(table)


def test_the_app_stands_before_or_after_the_command(cli: Cli) -> None:
    assert cli("--app", "shop.app", "defer", "charge") == "1\n"
    assert cli("defer", "charge", "--app", "shop.app") == "2\n"
    assert cli("-a", "nonsense.app", "defer", "charge", "--app", "shop.app") == "3\n"


def test_what_is_typed_wins_over_the_environment_and_that_over_the_project(cli: Cli) -> None:
    project(cli.folder, '[tool.procrastinate_deps]\napp = "shop.app"\n')
    assert cli("defer", "charge") == "1\n"
    named = {"PROCRASTINATE_DEPS_APP": "of_environment.app"}
    assert "of_environment" in cli.run("defer", "charge", **named).error
    assert cli("--app", "shop.app", "defer", "charge", **named) == "2\n"
    assert cli("defer", "--app", "shop.app", "charge", **named) == "3\n"


def test_the_nearest_project_counts_and_its_folder_is_searched(cli: Cli) -> None:
    project(cli.folder, '[tool.procrastinate_deps]\napp = "shop.app"\n')
    deep = cli.folder / "a" / "b"
    deep.mkdir(parents=True)
    assert cli.run("defer", "charge", cwd=deep).out == "1\n"
    project(deep.parent, "[project]\nname = 'another'\n")
    assert "no app is named" in cli.run("defer", "charge", cwd=deep).error


def test_no_app_is_one_line_that_names_the_three_ways(cli: Cli) -> None:
    for command in (["worker"], ["defer", "charge"]):
        error = cli.run(*command).error
        assert "--app" in error
        assert "PROCRASTINATE_DEPS_APP" in error
        assert "[tool.procrastinate_deps]" in error


@pytest.mark.parametrize("command", ["list-jobs", "list-queues", "list-workers", "list-tasks", "list-locks"])
def test_what_needs_only_the_database_needs_no_app(cli: Cli, command: str) -> None:
    assert cli.json(command) == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("nowhere.app", "'nowhere' can't be imported"),
        ("shop.nothing", "has no 'nothing'"),
        ("shop.charge", "is not an App"),
        ("shop", "package.module.name"),
        ("broken.app", "ZeroDivisionError"),
    ],
)
def test_an_app_that_is_not_there(cli: Cli, path: str, error: str) -> None:
    (cli.folder / "broken.py").write_text("1 / 0\n")
    assert error in cli.run("--app", path, "list-jobs").error


def test_an_error_has_its_traceback_only_at_log_level_debug(cli: Cli) -> None:
    (cli.folder / "broken.py").write_text("1 / 0\n")
    done = cli.run("--app", "broken.app", "list-jobs", "--log-level", "debug")
    assert done.status == 1
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    "table", ["[tool.procrastinate_deps", "[tool.procrastinate_deps]\napp = 7\n", "[tool]\nprocrastinate_deps = 7\n"]
)
def test_a_project_that_makes_no_sense(cli: Cli, table: str) -> None:
    project(cli.folder, table)
    assert cli.run("worker").status == 1
    assert cli.run("worker").error


def test_a_schema_that_is_not_the_apps_is_refused(cli: Cli) -> None:
    error = cli.run("--app", "shop.app", "--schema", "other", "list-jobs").error
    assert "'other'" in error
    assert "'procrastinate_deps'" in error
    assert cli("--app", "shop.app", "--schema", "procrastinate_deps", "list-jobs", "--format", "json") == "[]\n"


def test_the_installed_script_finds_an_app_in_the_current_folder(cli: Cli) -> None:
    script = Path(sys.executable).with_name("procrastinate-deps")
    done = subprocess.run(
        [script, "--app", "shop.app", "defer", "charge"],
        cwd=cli.folder,
        env=cli.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_help_is_for_every_command_and_shows_variables(cli: Cli) -> None:
    listed = cli("--help")
    for command in ("worker", "defer", "job-status", "list-jobs", "cancel", "retry", "migrate", "healthchecks"):
        assert f"\n  {command} " in listed
        described = cli(command, "--help")
        assert "Example" in described
        assert "PROCRASTINATE_DEPS_LOG_LEVEL" in described
    assert "PROCRASTINATE_DEPS_LIST_JOBS_FORMAT" in cli("list-jobs", "--help")


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["list-jobs", "--nonsense"], ["job-status", "seven"]])
def test_wrong_usage_has_status_2(cli: Cli, arguments: list[str]) -> None:
    done = cli.run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "Usage:" in done.err
