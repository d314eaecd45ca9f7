"""The PostgreSQL that everything is measured on: its own, durable, from the wheel of the extra `[embedded]`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from procrastinate_deps import embedded
from procrastinate_deps._embedded import binaries, keeper
from procrastinate_deps._embedded.cluster import Cluster

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# PostgreSQL's defaults otherwise: fsync, synchronous_commit and full_page_writes are on, and so is autovacuum.
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",  # no run is to meet a checkpoint that another one has caused
}
POLL_S = 0.002


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """
    A running server.

    prefix: of the names of all databases that are made here.
    """

    cluster: Cluster
    prefix: str = "bench"

    def dsn(self, database: str) -> str:
        return self.cluster.dsn(database)

    @contextlib.contextmanager
    def connection(self, database: str = "postgres") -> Iterator[Connection]:
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            yield connection

    def value(self, query: str, database: str = "postgres") -> Any:
        """The first column of the first row."""
        with self.connection(database) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def wal_bytes(self) -> int:
        """How much has been logged, by all databases."""
        return int(self.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def databases(self) -> list[str]:
        with self.connection() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall()
        return [str(row[0]) for row in rows if str(row[0]).startswith(f"{self.prefix}_")]

    def create(self, name: str, template: str = "template0") -> None:
        with self.connection() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )

    def drop(self, name: str) -> None:
        with self.connection() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def rename(self, name: str, new: str) -> None:
        with self.connection() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(new))
            )

    def settle(self, database: str) -> None:
        """Leave nothing to be done later: dead rows, statistics, dirty pages."""
        with self.connection(database) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    @contextlib.contextmanager
    def fresh(self, template: str, name: str = "run") -> Iterator[str]:
        """A database with a copy of this one, for one run."""
        name = f"{self.prefix}_{name}"
        self.drop(name)
        self.create(name, template)
        try:
            with self.connection() as connection:
                connection.execute("CHECKPOINT")
            yield name
        finally:
            self.drop(name)

    @contextlib.contextmanager
    def watching(self, database: str, condition: str) -> Iterator[Watch]:
        """Who sees when this SQL condition gets false: connected beforehand, for that takes as long as many a job."""
        with self.connection(database) as connection:
            connection.execute("SET enable_seqscan = off")
            watch = Watch(connection, condition)
            watch.is_true()
            yield watch


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """A connection that asks for one condition."""

    connection: Connection
    condition: str

    def is_true(self) -> bool:
        row = self.connection.execute(f"SELECT {self.condition}".encode()).fetchone()
        return row is None or bool(row[0])

    def when_false(self, within_s: float) -> float | None:
        """The moment (monotonic) from which it was seen to be false; None: it stayed true."""
        end = time.monotonic() + within_s
        while True:
            asked_at = time.monotonic()
            if not self.is_true():
                return asked_at
            if asked_at > end:
                return None
            time.sleep(POLL_S)


@contextlib.contextmanager
def running(home: Path) -> Iterator[Server]:
    """The benchmarks' server, from start to stop. Its data stay: its templates take minutes to make."""
    folder = _folder(home)
    uid, gid = embedded.server_user(folder / "data")
    cluster = Cluster(
        folder, embedded.installed(), uid=uid, gid=gid, settings=SETTINGS, initdb_options=embedded.INITDB_OPTIONS
    )
    cluster = dataclasses.replace(cluster, binaries=binaries.runnable(cluster, folder / "binaries"))
    users = keeper.join(cluster)
    try:
        yield Server(cluster)
    finally:
        keeper.leave(cluster, users)


def _folder(home: Path) -> Path:
    """Below `home`; where root's server, which runs as another user, may not enter that, on the disk of /var/tmp."""
    base = home / "server"
    is_root = sys.platform != "win32" and os.geteuid() == 0
    if is_root and not all(path.stat().st_mode & stat.S_IXOTH for path in (home, *home.parents)):
        base = Path("/var/tmp/procrastinate_deps-benchmarks")
    folder = base / f"{binaries.major_version()}-{hashlib.sha256(repr(SETTINGS).encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    if is_root:
        for path in (base, folder):
            path.chmod(0o755)
    return folder


def pgbench(cluster: Cluster) -> str | None:
    """The path of the program, beside the server's others or wherever the system has one."""
    beside = cluster.binaries / "pgbench"
    return str(beside) if beside.exists() else shutil.which("pgbench")
