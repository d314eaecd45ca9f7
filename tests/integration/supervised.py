"""`worker --processes N` and `--reload` as their users run them, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.cli_process import PROGRAM, environment
from tests.integration.worker_helpers import query
from tests.integration.worker_process import DEADLINE_S, DSN, wait_for_row

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = "tests.integration.worker_process.app"
QUICK_RESCUE = ("--update-heartbeat-interval", "0.2", "--stalled-worker-timeout", "3")
STARTED = "SELECT pid FROM effects WHERE job_id = %s AND what = 'start'"
NOBODY = "SELECT 1 WHERE NOT EXISTS (SELECT FROM procrastinate_deps.workers)"


class Supervised:
    """The command, with its log and that of its workers."""

    def __init__(self, dsn: str, folder: Path, *arguments: str, **env: str) -> None:
        self._dsn = dsn
        self._log = folder / "log"
        given = {"PROCRASTINATE_DEPS_DSN": dsn, DSN: dsn, "PROCRASTINATE_DEPS_APP": APP} | env
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *PROGRAM, "worker", *arguments],
                cwd=folder,
                env=environment(**given),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # as a shell starts a job: in a process group of its own
                process_group=0,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """The line of the log that matches; of several, that which comes as the nth."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            # its workers outlive one that was killed, for a while
            ended = self.process.poll() not in (None, -signal.SIGKILL)
            found = [line for line in self.log.splitlines() if re.search(pattern, line)]
            if len(found) >= times:
                return found[times - 1]
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} in the log:\n{self.log}")
            time.sleep(0.01)

    def worker(self, name: str, *, other_than: int = 0) -> int:
        """The pid of the worker of this name."""
        sql = "SELECT pid FROM procrastinate_deps.workers WHERE name = %s AND pid <> %s ORDER BY id DESC"
        return int(wait_for_row(self._dsn, sql, name, other_than)[0])

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        return self.process.wait(DEADLINE_S)


@contextlib.contextmanager
def supervised(dsn: str, folder: Path, *arguments: str, **env: str) -> Iterator[Supervised]:
    command = Supervised(dsn, folder, *arguments, **env)
    try:
        yield command
    except BaseException:
        print(command.log)
        raise
    finally:
        left = children_of(command.pid)
        if command.process.poll() is None:
            command.process.kill()
            command.process.wait()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children_of(parent: int) -> list[int]:
    return [pid for pid, of in _processes() if of == parent]


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that is not this one's child."""
    deadline = time.monotonic() + DEADLINE_S
    while any(pid == each for each, _ in _processes()):
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} is still there after {DEADLINE_S} s")
        time.sleep(0.05)


def _processes() -> list[tuple[int, int]]:
    """The ids of all living processes, and of their parents."""
    if Path("/proc/self/stat").exists():
        return [found for entry in Path("/proc").iterdir() if (found := _from_proc(entry)) is not None]
    listed = subprocess.run(["ps", "-A", "-o", "stat=,ppid=,pid="], capture_output=True, text=True, check=True).stdout
    return [(int(pid), int(of)) for state, of, pid in map(str.split, listed.splitlines()) if not state.startswith("Z")]


def _from_proc(entry: Path) -> tuple[int, int] | None:
    if not entry.name.isdigit():
        return None
    try:
        stat = (entry / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, *_ = stat.rpartition(")")[2].split()
    return None if state == "Z" else (int(entry.name), int(parent))


def statuses(dsn: str) -> list[str]:
    return [status for (status,) in query(dsn, "SELECT status::text FROM procrastinate_deps.jobs ORDER BY id")]


def let_go(dsn: str, *job_ids: int) -> None:
    for job_id in job_ids:
        query(dsn, "INSERT INTO go VALUES (%s)", job_id)
