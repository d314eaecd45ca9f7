"""One PostgreSQL data directory and the server on it, driven by initdb and pg_ctl."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from procrastinate_deps.exceptions import EmbeddedServerError

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
LOG_TAIL_LINES = 20
LOG_MAX_BYTES = 10_000_000
SOCKET_PORT = 5432
# sockaddr_un.sun_path with its closing zero byte: 108 on Linux, 104 on macOS and the BSDs
SOCKET_PATH_MAX_BYTES = 107 if sys.platform == "linux" else 103
SOCKET_NAME = f".s.PGSQL.{SOCKET_PORT}"
SUPERUSER = "postgres"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """
    Where a server lives and how it is run.

    directory: holds all that is listed below; absolute.
    binaries: folder of initdb, pg_ctl, postgres, psql, createdb.
    uid, gid: whom the server runs as, where that is not the calling user (root can't run PostgreSQL).
    temporary: delete `directory` when the server has been stopped because nobody used it any more.
    """

    directory: Path
    binaries: Path
    uid: int | None = None
    gid: int | None = None
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    initdb_options: tuple[str, ...] = ()
    temporary: bool = False

    # -- as text, for the keeper's command line

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Cluster:
        fields = json.loads(text)
        return cls(
            **{
                **fields,
                "directory": Path(fields["directory"]),
                "binaries": Path(fields["binaries"]),
                "initdb_options": tuple(fields["initdb_options"]),
            }
        )

    # -- what is in the directory

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def mutex_file(self) -> Path:
        """Held for the time of a decision to start or stop."""
        return self.directory / "mutex.lock"

    @property
    def users_file(self) -> Path:
        """Held shared by every process that uses the server."""
        return self.directory / "users.lock"

    @property
    def keeper_file(self) -> Path:
        """Held by the process that waits for the last user to leave."""
        return self.directory / "keeper.lock"

    @property
    def keep_marker(self) -> Path:
        """While this file exists, the server outlives its users."""
        return self.directory / "keep"

    @property
    def password_file(self) -> Path:
        return self.directory / "password"

    @property
    def socket_directory(self) -> Path:
        inside = self.directory / "run"
        # A comma separates hosts in a connection string.
        if len(os.fsencode(inside / SOCKET_NAME)) <= SOCKET_PATH_MAX_BYTES and "," not in str(inside):
            return inside
        key = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        return Path("/tmp") / f"procrastinate_deps-{key}"

    # -- how to reach it

    def dsn(self, database: str) -> str:
        """A URL that psycopg, asyncpg and SQLAlchemy's drivers read alike, PG* variables notwithstanding."""
        name = quote(database, safe="")
        if sys.platform == "win32":
            password = quote(self.password_file.read_text().strip(), safe="")
            return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self._port()}/{name}"
        folder = quote(str(self.socket_directory), safe="/")
        return f"postgresql://{SUPERUSER}@/{name}?host={folder}&port={SOCKET_PORT}"

    def _port(self) -> int:
        lines = self._pid_file_lines()
        return int(lines[3]) if len(lines) > 3 else 0

    def is_running(self) -> bool:
        """Whether the server accepts connections; says nothing about one that is on its way up or down."""
        lines = self._pid_file_lines()
        if len(lines) < 8 or lines[7].strip() != "ready":
            return False
        return self._is_listening()

    def _is_listening(self) -> bool:
        if sys.platform == "win32":
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", self._port())) == 0
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self.socket_directory / SOCKET_NAME)) == 0

    def server_pid(self) -> int | None:
        """The pid of the server process on this data directory if it lives, whatever its state."""
        lines = self._pid_file_lines()
        try:
            pid = int(lines[0])
        except (IndexError, ValueError):
            return None
        return pid if pid > 0 and self._lives(pid) else None

    def _lives(self, pid: int) -> bool:
        if sys.platform == "win32":
            return self._is_listening()
        return _exists(pid) and self._works_in_data(pid)

    def _works_in_data(self, pid: int) -> bool:
        """Whether this is the server, which works in its data directory, and not one that got a dead server's pid."""
        if not Path("/proc/self/cwd").exists():
            return True
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self.data)
        except FileNotFoundError:
            return False  # dead, and not reaped by its parent
        except PermissionError:
            return True

    def _remove_misleading_lock_files(self) -> None:
        """PostgreSQL refuses to start when a dead server's lock files name a pid that still exists, if as a zombie."""
        if sys.platform == "win32":
            return
        lines = self._pid_file_lines()
        pid = int(lines[0]) if lines and lines[0].strip().isdigit() else 0
        if pid > 0 and _exists(pid) and not self._works_in_data(pid):
            (self.data / "postmaster.pid").unlink()
            (self.socket_directory / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    # -- starting and stopping; the caller holds the mutex

    def start(self) -> None:
        """Make the data directory if there is none, then start the server unless it runs, within 60 s."""
        deadline = time.monotonic() + START_TIMEOUT_S
        self._initialise()
        while not self.is_running():
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._not_started(f"the server did not start within {START_TIMEOUT_S} s", 0)
            if self.server_pid() is not None:
                time.sleep(0.05)  # on its way up (started by a process that died meanwhile) or down
                continue
            self._start_once(int(left) + 1)

    def _start_once(self, timeout: int) -> None:
        self._make_socket_directory()
        self._write_settings()
        self._rotate_log()
        self._remove_misleading_lock_files()
        offset = self.log.stat().st_size
        # Relative names: pg_ctl puts these into a shell command without quoting them.
        done = self.run("pg_ctl", "start", "-D", "data", "-l", "server.log", "-w", "-s", "-t", str(timeout))
        if done.returncode == 0:
            return
        tail = self._log_tail(offset)
        if "still in use" in tail:
            time.sleep(0.1)  # the backends of a killed server are still on their way out
            return
        raise self._not_started(f"the server did not start: {done.stdout.strip()}", offset)

    def stop(self) -> None:
        """Stop the server, ending open connections; no error if it doesn't run."""
        if self.server_pid() is None:
            return
        done = self.run("pg_ctl", "stop", "-D", "data", "-m", "fast", "-w", "-s", "-t", str(STOP_TIMEOUT_S))
        if done.returncode != 0 and self.server_pid() is not None:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {self.directory} did not stop: {done.stdout.strip()}; see {self.log}"
            )

    def remove(self) -> None:
        if self.socket_directory.parent != self.directory:
            shutil.rmtree(self.socket_directory, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def ensure_database(self, name: str) -> None:
        """Create the database if it is not there."""
        where = (
            ("-h", "127.0.0.1", "-p", str(self._port()))
            if sys.platform == "win32"
            else ("-h", str(self.socket_directory))
        )
        connection = (*where, "-U", SUPERUSER, "-w")
        listed = self.run("psql", "-XAtlq", "-F", "\t", *connection, "-d", "postgres", demote=False)
        if listed.returncode == 0 and any(line.split("\t")[0] == name for line in listed.stdout.splitlines()):
            return
        created = self.run("createdb", *connection, name, demote=False)
        if created.returncode != 0:
            raise EmbeddedServerError(
                f"can't create the database {name!r} in the embedded PostgreSQL in {self.directory}: "
                f"{created.stdout.strip() or listed.stdout.strip()}"
            )

    # -- the parts of it

    def run(
        self, program: str, *arguments: str, demote: bool = True, binaries: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the server's user, in the directory; its whole output in stdout."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment |= {"LC_ALL": "C", "HOME": str(self.directory)}
        if sys.platform == "win32":
            with contextlib.suppress(FileNotFoundError):
                environment["PGPASSWORD"] = self.password_file.read_text().strip()
        options: dict[str, Any] = {}
        if demote and self.uid is not None:
            options = {"user": self.uid, "group": self.gid, "extra_groups": []}
        command = [str((binaries or self.binaries) / program), *arguments]
        # To a file, not a pipe: the server inherits pg_ctl's output on some systems, and a pipe would never end.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(
                    command,
                    cwd=self.directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=sys.platform != "win32",  # Ctrl-C in the terminal is not meant for the server
                    check=False,
                    **options,
                )
            except OSError as error:
                return subprocess.CompletedProcess(command, 126, f"{command[0]}: {error.strerror}")
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, output.read().decode(errors="replace"))

    def _initialise(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        for name in ("initdb.new", "data"):
            left_over = self.directory / name
            if left_over.exists():
                if name == "data" and any(left_over.iterdir()):
                    raise EmbeddedServerError(f"{left_over} is not a PostgreSQL data directory: move it away")
                shutil.rmtree(left_over)
        # Made beside and renamed at the end: an initdb that was killed leaves nothing that looks finished.
        new = self.directory / "initdb.new"
        new.mkdir(mode=0o700)
        self._give(new)
        options = [*self.initdb_options]
        if sys.platform == "win32":
            options += ["-A", "scram-sha-256", f"--pwfile={self._make_password()}"]
        else:
            options += ["-A", "trust"]  # the socket lies in a folder that only the server's user may enter
        done = self.run("initdb", "-D", new.name, "-U", SUPERUSER, "-E", "UTF8", *options)
        if done.returncode != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise EmbeddedServerError(f"initdb failed in {self.directory}: {done.stdout.strip()}")
        with (new / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude_if_exists = 'procrastinate_deps.conf'\n")
        new.rename(self.data)

    def _make_password(self) -> Path:
        import secrets

        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(24))
        return self.password_file

    def _write_settings(self) -> None:
        settings = {"max_connections": "200", **self.settings}
        if sys.platform == "win32":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                settings |= {"listen_addresses": "127.0.0.1", "port": str(probe.getsockname()[1])}
        else:
            # Quoted twice: it is a list, in which a comma or a space would begin another element.
            folder = '"' + str(self.socket_directory).replace('"', '""') + '"'
            settings |= {
                "listen_addresses": "",
                "port": str(SOCKET_PORT),
                "unix_socket_directories": folder,
                "unix_socket_permissions": "0700",
            }
        lines = ["# written anew at every start\n"]
        lines += [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
        path = self.data / "procrastinate_deps.conf"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text("".join(lines))
        self._give(path)

    def _make_socket_directory(self) -> None:
        if sys.platform == "win32":
            return
        folder = self.socket_directory
        try:
            folder.mkdir(mode=0o700)
            self._give(folder)
        except FileExistsError:
            pass
        state = folder.lstat()
        owner = os.geteuid() if self.uid is None else self.uid
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != owner or stat.S_IMODE(state.st_mode) != 0o700:
            raise EmbeddedServerError(
                f"{folder} must be a folder of user {owner} with mode 700: remove it and try again"
            )

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_MAX_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        if not self.log.exists():
            self.log.touch(mode=0o600)
            self._give(self.log)

    def _give(self, path: Path) -> None:
        if sys.platform != "win32" and self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def _log_tail(self, offset: int) -> str:
        with self.log.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _not_started(self, what: str, offset: int) -> EmbeddedServerError:
        tail = self._log_tail(offset) if self.log.exists() else ""
        return EmbeddedServerError(f"{what}\nembedded PostgreSQL in {self.directory}, end of {self.log.name}:\n{tail}")


def _quoted(value: str) -> str:
    """A value for postgresql.conf, which knows backslash escapes."""
    return value.replace("\\", "\\\\").replace("'", "''")


def _exists(pid: int) -> bool:
    """Whether a process of ours has this pid; one of another user can't be the server."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
