"""A PostgreSQL of a test's own, which it may kill."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from typing import TYPE_CHECKING

from procrastinate_deps._embedded.locks import FileLock
from procrastinate_deps.connectors import SyncPsycopgConnector
from procrastinate_deps.schema import SchemaManager

if TYPE_CHECKING:
    from pathlib import Path

    from procrastinate_deps._embedded.cluster import Cluster

DATABASE = "chaos"
# Only the server is killed, never the machine: what it has written is there. But commits must have been written.
MAX_CONNECTIONS = 60
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "on",
    "max_connections": str(MAX_CONNECTIONS),
    "deadlock_timeout": "200ms",
}


def prepared(server: Cluster) -> Cluster:
    """A data directory with a migrated database, made once for a run of tests and only ever copied."""
    folder = server.directory / "chaos"
    cluster = dataclasses.replace(server, directory=folder, settings=SETTINGS, temporary=False)
    with FileLock(server.directory / "chaos.lock"):
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            folder.chmod(0o755)
            cluster.start()
            try:
                cluster.ensure_database(DATABASE)
                with SyncPsycopgConnector(conninfo=cluster.dsn(DATABASE)) as connector:
                    SchemaManager(connector).apply()
            finally:
                cluster.stop()
            done.touch()
    return cluster


def copied(original: Cluster, folder: Path) -> Cluster:
    # With cp: it keeps the owner, without whom the server doesn't start.
    subprocess.run(["cp", "-a", str(original.data), str(folder / "data")], check=True)
    return dataclasses.replace(original, directory=folder, temporary=True)


def crash(cluster: Cluster) -> None:
    """Stop it as a power cut would, the machine's memory excepted."""
    with FileLock(cluster.mutex_file):
        done = cluster.run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w", "-s")
    if done.returncode != 0:
        raise RuntimeError(f"the server could not be crashed: {done.stdout}")


def recover(cluster: Cluster) -> None:
    with FileLock(cluster.mutex_file):
        cluster.start()
