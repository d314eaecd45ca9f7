"""The command line as its users run it: a process of its own, in a folder of theirs, in a pipe or on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPO = Path(__file__).parents[2]
DEADLINE_S = 60.0
PROGRAM = ("-m", "procrastinate_deps")

SHOP = """
from procrastinate_deps import App

app = App(worker_defaults={"name": "from-the-app"})


@app.task(name="charge", queue="money")
async def charge(order: int) -> str:
    print(f"order {order} is charged", flush=True)
    return f"paid {order}"


@app.task(name="ship", run_when="all_succeeded")
def ship(order: int) -> None:
    print(f"order {order} is shipped", flush=True)


@app.task(name="fail")
def fail() -> None:
    raise ValueError("out of [bold]stock[/bold]")
"""


def environment(**given: str) -> dict[str, str]:
    """That of a user who has configured nothing but `given`. A warning is an error there too."""
    # COLUMNS and LINES would stand above the terminal's own size
    left_out = ("PG", "PYTHON", "PROCRASTINATE", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"PYTHONPATH": str(REPO), "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"} | given


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr of a command that failed clearly."""
        assert self.status == 1, self
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("Error: "), self.err
        return self.err.strip().removeprefix("Error: ")

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cli:
    """Runs commands on a database, in a folder with an app in it."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = dict(env)
        (folder / "shop.py").write_text(SHOP)

    def run(self, *arguments: object, stdin: str = "", cwd: str | Path | None = None, **more: str) -> Done:
        """Whatever its exit status."""
        done = subprocess.run(
            [sys.executable, *PROGRAM, *map(str, arguments)],
            cwd=cwd or self.folder,
            env=self.env | more,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *arguments: object, **more: str) -> str:
        """What a command prints that is to succeed, and to say nothing on stderr."""
        done = self.run(*arguments, **more)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    def json(self, *arguments: object) -> Any:
        return json.loads(self(*arguments, "--format", "json"))

    def id(self, *arguments: object) -> int:
        """The id that `defer` prints."""
        return int(self("defer", *arguments))

    def on_terminal(self, *arguments: object, columns: int = 200, typed: str = "") -> tuple[int, str]:
        return on_terminal(*PROGRAM, *arguments, cwd=self.folder, env=self.env, columns=columns, typed=typed)


def on_terminal(
    *arguments: object, cwd: Path, env: Mapping[str, str], columns: int = 200, lines: int = 50, typed: str = ""
) -> tuple[int, str]:
    """The exit status of Python run with these arguments on a terminal, and all that was written to it.

    `typed` is what a person types ahead, before it is asked for.
    """
    with terminal(*arguments, cwd=cwd, env=env, columns=columns, lines=lines) as (process, master):
        os.write(master, typed.encode())
        written = b""
        # Linux says EIO when the last one has closed the other end
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 65536):
                written += chunk
        return process.wait(DEADLINE_S), written.decode()


@contextlib.contextmanager
def terminal(
    *arguments: object, cwd: Path, env: Mapping[str, str], columns: int, lines: int
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    master, slave = os.openpty()
    try:
        try:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                cwd=cwd,
                env={**env, "TERM": "xterm-256color"},
                stdin=slave,
                stdout=slave,
                stderr=slave,
            )
        finally:
            os.close(slave)
        try:
            yield process, master
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    finally:
        os.close(master)
