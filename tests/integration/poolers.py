"""A PgBouncer of a test's own, in front of the tests' server."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from procrastinate_deps.connectors.dsn import parse
from tests.places import server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from procrastinate_deps._embedded.cluster import Cluster

PORT = 6432
DEADLINE_S = 30.0
POOL_SIZE = 2
"""Sessions on the server per database, however many clients there are."""


def program() -> str:
    """Debian puts it where only root looks for programs."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        missing = "pgbouncer is not installed (Debian: apt-get install pgbouncer)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and CI must test with it")
        pytest.skip(f"NOT TESTED: {missing}")
    return found


class PgBouncer:
    def __init__(self, server: Cluster, folder: Path, pool_mode: str) -> None:
        self._server = server
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "pgbouncer.log"
        settings = {
            "listen_addr": "",
            "listen_port": PORT,
            "unix_socket_dir": folder,
            "auth_type": "any",
            "admin_users": "postgres",
            "pool_mode": pool_mode,
            "default_pool_size": POOL_SIZE,
            "max_client_conn": 500,
            "logfile": self.log,
        }
        database = f"* = host={server.socket_directory} port=5432 user=postgres"
        lines = ["[databases]", database, "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        if server.uid is not None and server.gid is not None:
            os.chown(folder, server.uid, server.gid)

    def start(self) -> None:
        options: dict[str, Any] = {}
        if self._server.uid is not None:  # it refuses to run as root
            options = {"user": self._server.uid, "group": self._server.gid, "extra_groups": []}
        self._process = subprocess.Popen(
            [program(), "-q", str(self._folder / "pgbouncer.ini")], cwd=self._folder, **options
        )
        deadline = time.monotonic() + DEADLINE_S
        while "process up" not in (self.log.read_text() if self.log.exists() else ""):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f"pgbouncer did not start: {self.log.exists() and self.log.read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """At once, with all its connections."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)
            self._process = None
        self.log.unlink(missing_ok=True)

    def through(self, dsn: str) -> str:
        """The way through it to the database of this connection string."""
        return f"postgresql://postgres@/{parse(dsn)['dbname']}?host={quote(str(self._folder))}&port={PORT}"

    def sessions(self, dsn: str) -> int:
        """How many sessions it has on the server for this database."""
        with psycopg.connect(self.through("dbname=pgbouncer"), autocommit=True) as console:
            rows = console.execute("SHOW SERVERS").fetchall()
        return sum(row[2] == parse(dsn)["dbname"] for row in rows)


@contextlib.contextmanager
def pgbouncer(server: Cluster, pool_mode: str = "transaction") -> Iterator[PgBouncer]:
    program()
    folder = server_folder("pd-pgb-")
    pooler = PgBouncer(server, folder, pool_mode)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()
        shutil.rmtree(folder)
