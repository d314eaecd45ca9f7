"""Workers in processes of their own, with their logs."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPO = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "procrastinate_deps", "--log-format", "json", "--app", "tests.chaos.tasks.app")
DEADLINE_S = 60.0
LOG_TAIL_LINES = 25


class Hand:
    """One worker process."""

    def __init__(self, name: str, log: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._records: list[dict[str, Any]] = []
        self._read = 0
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*COMMAND, "worker", "--name", name, *arguments],
                cwd=REPO,
                env={**os.environ, **environment},
                stdout=out,
                stderr=out,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def records(self) -> list[dict[str, Any]]:
        """Its log so far. A line that is no record (a traceback of Python's own) has only a message."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        self._records += [_record(line) for line in whole.decode(errors="replace").splitlines()]
        return self._records

    def count(self, action: str) -> int:
        return sum(record.get("action") == action for record in self.records())

    def wait_for(self, action: str, times: int = 1) -> None:
        """Until it has logged so many records with this action."""
        self.wait_until(lambda: self.count(action) >= times, f"no {times} × {action!r} in its log")

    def wait_until(self, condition: Callable[[], bool], what_else: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline or not self.alive:
                raise AssertionError(f"worker {self.name}: {what_else}, within {DEADLINE_S} s:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self) -> str:
        lines = [
            f"{record.get('time', '')[11:23]} {record.get('level', '')} {record['message'][:300]}"
            for record in self.records()
            if record.get("action") not in ("start_job", "job_success")
        ]
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {"message": line}


class Crew:
    """The workers of a test, and those that took the place of dead ones."""

    def __init__(self, folder: Path, dsn: str, ledger: str, *, concurrency: int, defaults: Mapping[str, Any]) -> None:
        self._folder = folder
        self._dsn = dsn
        self._ledger = ledger
        self._concurrency = concurrency
        self._defaults = defaults
        self.hands: dict[str, Hand] = {}
        self.gone: list[Hand] = []
        self._recipes: dict[str, Callable[[], Hand]] = {}
        self._started: collections.Counter[str] = collections.Counter()

    def start(
        self,
        name: str,
        driver: str,
        *,
        queues: Sequence[str] = (),
        max_size: int = 4,
        environment: Mapping[str, str] | None = None,
    ) -> Hand:
        separator = "&" if "?" in self._dsn else "?"
        variables = {
            tasks.DSN: f"{self._dsn}{separator}application_name={name}",
            tasks.LEDGER: self._ledger,
            tasks.DRIVER: driver,
            tasks.MAX_SIZE: str(max_size),
            tasks.WORKER: json.dumps(self._defaults),
            **(environment or {}),
        }

        def make() -> Hand:
            self._started[name] += 1
            log = self._folder / f"{name}-{self._started[name]}.log"
            return Hand(name, log, [*queues, "--concurrency", str(self._concurrency)], variables)

        self._recipes[name] = make
        self.hands[name] = make()
        return self.hands[name]

    def replace(self, name: str) -> Hand:
        """Another process in the place of one that is dead."""
        self.gone.append(self.hands[name])
        self.hands[name] = self._recipes[name]()
        return self.hands[name]

    def wait_until_working(self, action: str = "start_worker") -> None:
        for hand in self.hands.values():
            hand.wait_for(action)

    def dead(self) -> list[Hand]:
        return [hand for hand in self.hands.values() if not hand.alive]

    def stop(self) -> dict[str, int]:
        """By SIGTERM; the exit statuses."""
        for hand in self.hands.values():
            hand.send(signal.SIGTERM)
        return {name: hand.process.wait(DEADLINE_S) for name, hand in self.hands.items()}

    def kill(self) -> None:
        for hand in self.hands.values():
            hand.process.kill()
            hand.process.wait()

    def logs(self) -> str:
        return "\n".join(
            f"  {hand.log} (pid {hand.pid}, {'alive' if hand.alive else hand.process.returncode}):\n{hand.tail()}"
            for hand in [*self.gone, *self.hands.values()]
        )

    def count(self, action: str) -> int:
        return sum(hand.count(action) for hand in [*self.gone, *self.hands.values()])

    def refused(self) -> list[int]:
        """How often the server had no connection left for each worker."""
        return [
            sum("too many clients" in record["message"] for record in hand.records()) for hand in self.hands.values()
        ]
