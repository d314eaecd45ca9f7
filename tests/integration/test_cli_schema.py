"""`migrate`, `schema`, `healthchecks`, and what the other commands say on a database that isn't ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.integration.cli_process import Cli, environment
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "0001"
# nothing listens on port 1
NO_DATABASE = "postgresql://someone:s3cret%25word@127.0.0.1:1/nothing"


@pytest.fixture
def cli(empty_dsn: str, tmp_path: Path) -> Cli:
    """On a database without the schema."""
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=empty_dsn))


def tables(dsn: str) -> list[str]:
    return [row[0] for row in query(dsn, "SELECT schemaname FROM pg_tables WHERE tablename = 'jobs' ORDER BY 1")]


def test_migrate_there_and_back(cli: Cli, empty_dsn: str) -> None:
    assert cli("migrate", "--current") == "none\n"
    assert cli.json("migrate", "--current") == {"current": None, "head": HEAD}
    assert cli("migrate") == f"the schema procrastinate_deps was migrated from nothing to revision {HEAD}\n"
    assert cli("migrate") == f"the schema procrastinate_deps is at revision {HEAD} already\n"
    assert cli("migrate", "--current") == f"{HEAD}\n"
    assert tables(empty_dsn) == ["procrastinate_deps"]
    assert "--downgrade" in cli.run("migrate", "base").error
    assert tables(empty_dsn) == ["procrastinate_deps"]
    assert "to nothing" in cli("migrate", "--downgrade", "base")
    assert tables(empty_dsn) == []


def test_migrate_shows_its_history(cli: Cli) -> None:
    assert cli.json("migrate", "--history")[0] == {"id": HEAD, "description": "initial"}
    assert cli("migrate", "--history").splitlines()[1].split() == [HEAD, "initial"]


@pytest.mark.parametrize("arguments", [["migrate", "--sql"], ["schema", "--read"]])
def test_the_printed_sql_makes_the_schema(cli: Cli, empty_dsn: str, arguments: list[str]) -> None:
    # without a database: it is for those who may not reach it from here
    script = cli(*arguments, PROCRASTINATE_DEPS_DSN=NO_DATABASE)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(script.encode())
    assert cli("migrate", "--current") == f"{HEAD}\n"
    assert cli.json("list-jobs") == []


def test_schema_applies(cli: Cli, empty_dsn: str) -> None:
    assert f"to revision {HEAD}" in cli("schema", "--apply")
    assert tables(empty_dsn) == ["procrastinate_deps"]


def test_another_schema(cli: Cli, empty_dsn: str) -> None:
    cli("--schema", "Other one", "migrate")
    assert cli("migrate", PROCRASTINATE_DEPS_SCHEMA="third").startswith("the schema third was migrated")
    assert tables(empty_dsn) == ["Other one", "third"]
    assert cli("--schema", "Other one", "defer", "--unknown", "t") == "1\n"
    assert len(cli.json("--schema", "Other one", "list-jobs")) == 1
    assert cli.json("list-jobs", "--schema", "third") == []
    assert "pg_" in cli.run("--schema", "pg_mine", "list-jobs").error


@pytest.mark.parametrize(
    "arguments",
    [
        ["migrate", "--current", "--history"],
        ["migrate", "--sql", "--downgrade", HEAD],
        ["migrate", "--downgrade"],
        ["migrate", "--current", HEAD],
        ["schema"],
    ],
)
def test_what_makes_no_sense_is_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    assert cli.run(*arguments).status == 2


def test_a_revision_that_does_not_exist(cli: Cli) -> None:
    assert "9999" in cli.run("migrate", "9999").error


def test_a_database_that_is_newer_than_the_program(cli: Cli, empty_dsn: str) -> None:
    cli("migrate")
    query(empty_dsn, "UPDATE procrastinate_deps.alembic_version SET version_num = '9999'")
    assert "newer than this program" in cli.run("migrate").error
    assert "newer than this program" in cli.run("--app", "shop.app", "worker", "--log-level", "warning").error


@pytest.mark.parametrize(
    "command",
    [
        ["list-jobs"],
        ["list-queues"],
        ["list-workers"],
        ["job-status", "1"],
        ["cancel", "1"],
        ["retry", "1"],
        ["defer", "charge"],
        ["worker", "--log-level", "warning"],
    ],
    ids=lambda command: command[0],
)
def test_a_missing_schema_names_the_command_that_makes_it(cli: Cli, command: list[str]) -> None:
    assert "python -m procrastinate_deps migrate" in cli.run("--app", "shop.app", *command).error


@pytest.mark.parametrize(
    "command",
    [["list-jobs"], ["migrate"], ["defer", "charge"], ["worker", "--log-level", "warning"]],
    ids=lambda command: command[0],
)
def test_no_database_is_one_line_without_the_password(cli: Cli, command: list[str]) -> None:
    error = cli.run("--app", "shop.app", *command, PROCRASTINATE_DEPS_DSN=NO_DATABASE).error
    assert "can't connect" in error
    assert "127.0.0.1" in error
    assert "s3cret" not in error


def test_the_password_is_not_in_the_debug_log_either(cli: Cli) -> None:
    done = cli.run("list-jobs", "--log-level", "debug", PROCRASTINATE_DEPS_DSN=NO_DATABASE)
    assert done.status == 1
    assert "Traceback" in done.err
    assert "PROCRASTINATE_DEPS_DSN" in done.err  # which database was chosen
    assert "s3cret" not in done.err


def test_a_connection_string_that_is_none(cli: Cli) -> None:
    error = cli.run("list-jobs", PROCRASTINATE_DEPS_DSN="host=x password").error
    assert "PROCRASTINATE_DEPS_DSN" in error


# healthchecks


def checks(cli: Cli, **more: str) -> dict[str, bool]:
    done = cli.run("healthchecks", "--format", "json", **more)
    found = {each["check"]: each["ok"] for each in done.json}
    assert done.status == (0 if all(found.values()) else 1), done
    assert done.err == ""
    return found


def test_all_is_well(cli: Cli, dsn: str) -> None:
    cli.env |= {"PROCRASTINATE_DEPS_APP": "shop.app", "PROCRASTINATE_DEPS_DSN": dsn}
    assert checks(cli) == {"app": True, "connection": True, "schema": True}
    app, connection, schema = cli("healthchecks").splitlines()
    assert app.startswith("app: ok, shop.app")
    assert connection.startswith("connection: ok, ")
    assert schema == f"schema: ok, procrastinate_deps is at revision {HEAD}"


def test_each_check_can_fail(cli: Cli, dsn: str) -> None:
    cli.env["PROCRASTINATE_DEPS_APP"] = "shop.app"
    assert checks(cli) == {"app": True, "connection": True, "schema": False}
    assert checks(cli, PROCRASTINATE_DEPS_DSN=NO_DATABASE) == {"app": True, "connection": False, "schema": False}
    cli.env["PROCRASTINATE_DEPS_DSN"] = dsn
    assert checks(cli, PROCRASTINATE_DEPS_APP="nowhere.app") == {"app": False, "connection": True, "schema": True}
    assert checks(cli, PROCRASTINATE_DEPS_APP="") == {"app": False, "connection": True, "schema": True}
    done = cli.run("healthchecks", PROCRASTINATE_DEPS_DSN=NO_DATABASE)
    assert done.status == 1
    assert [line.split(",")[0] for line in done.out.splitlines()] == ["app: ok", "connection: FAILED", "schema: FAILED"]
    assert "s3cret" not in done.out
