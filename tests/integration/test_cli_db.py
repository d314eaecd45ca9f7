"""`db`: the embedded server by hand, and as the database of who has configured nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.embedded.conftest import wait_until
from tests.integration.cli_process import Cli, environment
from tests.places import server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    # not pytest's own folder, which root's server could not enter
    folder = server_folder("pd-cli-")
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_EMBEDDED_DIR=str(folder / "data")))
    yield cli
    cli.run("db", "stop", "--force")
    wait_until(lambda: not list(folder.glob("data/*/data/postmaster.pid")), "the server's end")
    shutil.rmtree(folder)


@pytest.mark.timeout(240)
def test_the_life_of_the_embedded_server(cli: Cli) -> None:
    assert "db start" in cli.run("db", "url").error
    assert cli("db", "stop") == "the embedded server is stopped\n"
    url = cli("db", "start")
    assert url.startswith("postgresql://")
    assert cli("db", "url") == url
    assert cli("db", "psql", "-At", "-c", "SELECT current_database()") == "procrastinate_deps\n"
    assert cli.run("db", "psql", "-c", "SELECT nonsense").status == 1
    assert cli.run("db", "psql", "-At", stdin="SELECT 40 + 2;\n").out == "42\n"

    cli("migrate")
    assert cli.json("list-jobs") == []
    assert "the embedded server" in cli.run("list-jobs", "--log-level", "info").err

    assert cli("db", "stop") == "the embedded server is stopped\n"
    assert cli.run("db", "url").status == 1
    # started for this one command
    assert cli.json("list-jobs") == []
