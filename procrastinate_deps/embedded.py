"""
A real PostgreSQL from a wheel (the extra `[embedded]`), for trying, developing and testing.

One server per user account and major version, shared by all processes that use it: the first one starts it, the last
one out stops it, also when processes are killed. Its data stay. All of this blocks: async code calls it in a thread.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from procrastinate_deps._embedded import binaries
from procrastinate_deps._embedded.cluster import Cluster
from procrastinate_deps._embedded.keeper import join, leave, stop_if_unused
from procrastinate_deps._embedded.locks import FileLock
from procrastinate_deps.exceptions import EmbeddedServerError

if sys.platform != "win32":
    import pwd

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "DATABASE",
    "EmbeddedServer",
    "EmbeddedServerError",
    "is_installed",
    "psql_command",
    "start",
    "stop",
    "url",
]

DATABASE = "procrastinate_deps"
DIRECTORY_VARIABLE = "PROCRASTINATE_DEPS_EMBEDDED_DIR"
# Where root's server keeps its data: root's home is closed to the user that it must run as.
ROOT_DIRECTORIES = (Path("/var/lib"), Path("/var/tmp"))
# Whom root's server runs as, the first that exists; the owner of existing data goes before.
SERVER_USERS = ("postgres", "nobody")
INITDB_OPTIONS = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")


class EmbeddedServer:
    """
    This object's hold on the embedded server: from `open` to `close` (or the process's end) the server runs.

    directory: where data, logs and locks lie, per major version; by default PROCRASTINATE_DEPS_EMBEDDED_DIR, else
    `procrastinate_deps` in the user's data directory, for root in /var/lib.

    `with EmbeddedServer() as dsn:` gives the URL of its database.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, database: str = DATABASE) -> None:
        self._directory = None if directory is None else Path(directory).absolute()
        self._database = database
        self._held: tuple[Cluster, FileLock] | None = None

    def open(self) -> str:
        """
        Start the server unless it runs, and see to it that the database is there. Returns its URL.

        raises EmbeddedServerError: nothing is installed, no folder to write to, or no start within 60 s.
        """
        cluster = _cluster(self._directory)
        try:
            users = join(cluster, self._database)
        except OSError as error:
            raise _unusable(cluster.directory, error) from error
        if self._held is None:
            self._held = cluster, users
            atexit.register(self.close)
        else:
            users.release()  # opened again: the server may have crashed meanwhile
        return cluster.dsn(self._database)

    def close(self) -> None:
        """Give up the hold; the last one out stops the server."""
        held, self._held = self._held, None
        if held is not None:
            atexit.unregister(self.close)
            leave(*held)

    def __enter__(self) -> str:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def start(*, keep: bool = True) -> str:
    """
    Start the server unless it runs. Returns its URL.

    keep: it goes on running when this process and all others have ended, until `stop`.
    """
    server = EmbeddedServer()
    address = server.open()
    try:
        if keep:
            _cluster(None).keep_marker.touch()
    finally:
        server.close()
    return address


def stop(*, force: bool = False) -> bool:
    """
    Stop the server, also one that was to be kept.

    force: even when other processes use it; otherwise the last of them stops it when it leaves.

    Returns whether the server is down now.
    """
    if not _cluster(None, create=False).mutex_file.exists():
        return True
    cluster = _cluster(None)
    with FileLock(cluster.mutex_file):
        cluster.keep_marker.unlink(missing_ok=True)
        if force:
            cluster.stop()
        return cluster.server_pid() is None or stop_if_unused(cluster)


def url() -> str | None:
    """The URL of the embedded server's database, None when the server doesn't run."""
    cluster = _cluster(None, create=False)
    return cluster.dsn(DATABASE) if cluster.is_running() else None


def psql_command(*arguments: str) -> list[str]:
    """The command line of psql, from the wheel, on the embedded server's database; the server must run."""
    address = url()
    if address is None:
        raise EmbeddedServerError("the embedded PostgreSQL is not running: python -m procrastinate_deps db start")
    return [str(installed() / "psql"), address, *arguments]


def is_installed() -> bool:
    """Whether the extra `[embedded]` is there."""
    return binaries.find() is not None


# -- where it lives


def installed() -> Path:
    folder = binaries.find()
    if folder is None:
        raise EmbeddedServerError(binaries.NOT_INSTALLED)
    return folder


def _cluster(directory: Path | None, *, create: bool = True) -> Cluster:
    """create: make the folder, and see to it that the server's user can enter it and run the programs."""
    programs = installed()
    base = directory or _default_directory()
    folder = base / binaries.major_version()
    uid, gid = server_user(folder / "data")
    cluster = Cluster(folder, programs, uid=uid, gid=gid, initdb_options=INITDB_OPTIONS)
    if not create:
        return cluster
    try:
        _make_directory(folder, 0o700 if uid is None else 0o755)
        if uid is not None:
            _check_enterable(cluster)
        with FileLock(folder / "binaries.lock"):
            return dataclasses.replace(cluster, binaries=binaries.runnable(cluster, base / "binaries"))
    except OSError as error:
        raise _unusable(folder, error) from error


def _default_directory() -> Path:
    configured = os.environ.get(DIRECTORY_VARIABLE)
    if configured:
        return Path(configured).absolute()
    if sys.platform != "win32" and os.geteuid() == 0:
        parent = next((path for path in ROOT_DIRECTORIES if path.is_dir()), ROOT_DIRECTORIES[-1])
        return parent / DATABASE
    try:
        import platformdirs
    except ImportError as error:
        raise EmbeddedServerError(binaries.NOT_INSTALLED) from error
    folder = Path(platformdirs.user_data_dir(DATABASE, appauthor=False))
    if not folder.is_absolute():
        raise EmbeddedServerError(
            f"this user has no home directory for the embedded PostgreSQL's data: set HOME or {DIRECTORY_VARIABLE}"
        )
    return folder


def server_user(data: Path) -> tuple[int | None, int | None]:
    """Whom the server runs as, (None, None) for the calling user."""
    if sys.platform == "win32":
        return None, None
    if os.geteuid() != 0:
        return None, None
    with contextlib.suppress(FileNotFoundError):
        owner = data.stat()
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
    for name in SERVER_USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    raise EmbeddedServerError(
        "PostgreSQL doesn't run as root, and there is no user "
        + " or ".join(repr(name) for name in SERVER_USERS)
        + " to run it as: create one, or run this as an ordinary user"
    )


def _make_directory(folder: Path, mode: int) -> None:
    """The folder and what is missing above it, with this mode; what exists is left as it is."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        try:
            path.mkdir(mode=mode)
        except FileExistsError:
            continue  # by another process, at the same moment
        path.chmod(mode)  # whatever the umask is


def _check_enterable(cluster: Cluster) -> None:
    done = cluster.run("/bin/sh", "-c", 'cd -- "$1"', "sh", str(cluster.directory))
    if done.returncode != 0:
        raise EmbeddedServerError(
            f"as root the embedded PostgreSQL runs as user {cluster.uid}, who can't enter {cluster.directory}: "
            f"set {DIRECTORY_VARIABLE} to a folder whose parents everybody may enter, such as /var/lib/{DATABASE}"
        )


def _unusable(folder: Path, error: OSError) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"can't keep the embedded PostgreSQL's data in {folder}: {error}; set {DIRECTORY_VARIABLE} to a folder that "
        "this user may write to, or name a server of your own in PROCRASTINATE_DEPS_DSN"
    )
