"""docs/cli.md: its commands work as they stand, and every command of the program is in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli import targets
from procrastinate_deps.cli.program import program
from procrastinate_deps.manager import JobManager
from procrastinate_deps.verbs import bulk
from tests.docs.pages import REPOSITORY, follow

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/cli.md"
TEXT = (REPOSITORY / PAGE).read_text()


def test_the_commands(empty_dsn: str, tmp_path: Path) -> None:
    done = follow(PAGE, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)
    said = {" ".join(command[3:]): ended.stdout for command, ended in done if command[1] == "-m"}
    assert "level 1" in said["job-status 3"]
    assert said["cancel --queue mails --dry-run"] == "would cancel 3 jobs: 1, 2, 3\n"
    assert "├" not in said["workflow show 1"]
    assert "└─ publish (6)  blocked" in said["workflow show 1"]
    assert "'nobody' is no address" in said["top --once"]
    assert "succeeded 100% of 3 jobs" in said["workflow watch 1"]
    assert (tmp_path / "report.svg").read_text().startswith("<svg")
    assert said["retry --status failed --task mails.send --yes"] == "1 job retried\n"
    assert said["delete 3"] == "job 3: deleted\n"
    assert said["workflow retry 1 --mode all --yes"] == "3 jobs to run again\n"
    assert said["workflow delete 1 --yes"] == "deleted, with 3 jobs\n"
    assert said["shell list_jobs status=cancelled details"].startswith(
        "#2 mails.send on mails - [cancelled] (attempts="
    )
    assert said["check --repair"] == "every invariant holds\n"


def test_every_command_is_named() -> None:
    for name, command in program.commands.items():
        assert re.search(rf"`(\w[\w-]*`, `)*{name}\b", TEXT), name
        if isinstance(command, click.Group) and name == "workflow":
            for inner in command.commands:
                assert f"workflow {inner}" in TEXT, inner


def test_every_command_has_examples_and_short_help() -> None:
    for name, command in program.commands.items():
        assert command.epilog is not None, name
        assert f"procrastinate-deps {name}" in command.epilog, name


def test_what_it_names_exists() -> None:
    options = {option for command in program.commands.values() for each in command.params for option in each.opts}
    workflow = program.commands["workflow"]
    assert isinstance(workflow, click.Group)
    options |= {option for command in workflow.commands.values() for each in command.params for option in each.opts}
    options |= {"--reload", "--help", "--repair"}
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)):
        assert option in options, option
    for name in ("select_jobs", "cancel_jobs", "retry_jobs", "delete_jobs"):
        assert f"`{name}" in TEXT or f"job_manager.{name}" in TEXT
        assert hasattr(JobManager, f"{name}_async")
    assert f"{bulk.BATCH:,} jobs each" in TEXT
    assert f"exactly up to {targets.COUNT_CAP:,}" in TEXT


def test_the_page_is_linked() -> None:
    assert "(cli.md)" in (REPOSITORY / "docs" / "README.md").read_text()
