"""The processes of an adapter: those that defer, and workers with the scoreboards that their jobs write to."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from benchmarks.adapters.adapter import CONCURRENCY_VARIABLE, DSN_VARIABLE, SCOREBOARD_CELLS, SCOREBOARD_VARIABLE
from benchmarks.environments import REPOSITORY
from benchmarks.peers import Peer

SCOREBOARD_BYTES = 8 * (1 + 2 * SCOREBOARD_CELLS)
MEMORY = Path("/dev/shm")
POLL_S = 0.002
COMMAND_TIMEOUT_S = 900
START_TIMEOUT_S = 60


class PeerError(Exception):
    """A peer did not do what it was told; the message says what its log ends with."""


@dataclass(frozen=True, slots=True)
class Span:
    """When a command of an adapter began and ended, by the monotonic clock."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer and what runs it. log: what its processes write to standard error."""

    peer: Peer
    python: Path
    log: Path

    def call(self, dsn: str, *command: object) -> Span:
        """Run one of the adapter's commands to its end."""
        process = self.start(dsn, *command)
        try:
            output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise PeerError(f"{command[0]} did not end within {COMMAND_TIMEOUT_S} s") from None
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0 or not output.strip():
            raise self.failed(f"{command[0]} ended with {process.returncode}")
        return Span(**json.loads(output.splitlines()[-1]))

    def start(
        self, dsn: str, *command: object, scoreboard: Path | None = None, concurrency: int | None = None
    ) -> subprocess.Popen[str]:
        environment = os.environ | {DSN_VARIABLE: dsn}
        if concurrency is not None:
            environment[CONCURRENCY_VARIABLE] = str(concurrency)
        if scoreboard is not None:
            environment[SCOREBOARD_VARIABLE] = str(scoreboard)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            return subprocess.Popen(
                [str(self.python), "-m", f"benchmarks.adapters.{self.peer.name}", *map(str, command)],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def failed(self, what: str) -> PeerError:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return PeerError(f"{what}: {lines[-1] if lines else 'its log is empty'}")


class Crew:
    """Worker processes of one peer on one database, working from `with` to its end."""

    def __init__(self, installed: Installed, dsn: str, processes: int = 1, concurrency: int | None = None) -> None:
        self._installed = installed
        self._concurrency = concurrency
        self._dsn = dsn
        self._wanted = processes
        self._open = contextlib.ExitStack()
        self._workers: list[subprocess.Popen[str]] = []
        self._boards: list[memoryview[float]] = []
        self._skipped = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            folder = Path(tempfile.mkdtemp(prefix="pd-scores-", dir=MEMORY if MEMORY.is_dir() else None))
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            undo.callback(self._kill)
            for n in range(self._wanted):
                path = folder / str(n)
                path.touch()
                os.truncate(path, SCOREBOARD_BYTES)
                with path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self._boards.append(memoryview(mapped).cast("d"))
                worker = self._installed.start(self._dsn, "work", scoreboard=path, concurrency=self._concurrency)
                self._workers.append(worker)
            for worker in self._workers:
                output = _output(worker)
                readable, _, _ = select.select([output], [], [], START_TIMEOUT_S)
                if not readable or output.readline().strip() != "ready":
                    raise self._installed.failed("a worker did not start")
            for worker in self._workers:
                _input(worker).write("go\n")
                _input(worker).flush()
            self._open = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.communicate()

    # -- what has been done

    @property
    def count(self) -> int:
        """Bodies that have run since the start, or since `skip`."""
        return sum(int(board[0]) for board in self._boards) - self._skipped

    def skip(self) -> None:
        """Forget what has run so far. Only for a single worker."""
        self._skipped = int(self._boards[0][0])

    def times(self) -> list[float]:
        """When each body ran, in order."""
        return sorted(time for time, _ in self._cells())

    def delays(self) -> list[float]:
        """Of jobs that know when they were deferred: the seconds from then to their bodies."""
        return [delay for _, delay in self._cells() if delay]

    def _cells(self) -> Iterator[tuple[float, float]]:
        for board in self._boards:
            for n in range(self._skipped, min(int(board[0]), SCOREBOARD_CELLS)):
                yield board[1 + 2 * n], board[2 + 2 * n]

    def wait(self, count: int, within_s: float) -> bool:
        """Whether that many bodies have run, within the time."""
        end = time.monotonic() + within_s
        while self.count < count:
            if time.monotonic() > end:
                return False
            for worker in self._workers:
                if worker.poll() is not None:
                    raise self._installed.failed(f"a worker ended with {worker.returncode}")
            time.sleep(POLL_S)
        return True

    def started(self) -> None:
        """Wait for the first body."""
        if not self.wait(1, START_TIMEOUT_S):
            raise self._installed.failed(f"a worker started no job within {START_TIMEOUT_S} s")

    def cpu_s(self) -> float | None:
        """What the workers' processes have used, themselves and in the kernel; None where /proc does not tell."""
        try:
            texts = [Path(f"/proc/{worker.pid}/stat").read_text() for worker in self._workers]
        except FileNotFoundError:
            return None
        ticks = [int(part) for text in texts for part in text.rpartition(")")[2].split()[11:13]]
        return sum(ticks) / os.sysconf("SC_CLK_TCK")


def _output(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdout is None:
        raise RuntimeError("the process was started without a pipe from its standard output")
    return process.stdout


def _input(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdin is None:
        raise RuntimeError("the process was started without a pipe to its standard input")
    return process.stdin
