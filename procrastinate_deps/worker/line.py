"""The line between a supervisor and one of its worker processes: a socket that is the process's stdin.

The supervisor sends orders, the process says that it serves, and each sees the other's end, however it came about.
Orders don't come as signals, because signals come from elsewhere too: a terminal's Ctrl-C or a stop by systemd reaches
the supervisor and its processes, and must not count twice.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Not for users: what the supervisor says to the process that it starts.
ENVIRONMENT = "_PROCRASTINATE_DEPS_SUPERVISED"

STDIN = 0
# How often a process that has not started to read its orders looks whether there is a supervisor still.
LOOK_INTERVAL_S = 1.0


class Order(enum.Enum):
    STOP = b"s"
    STOP_NOW = b"n"


class Report(enum.Enum):
    """What a process says once, when it has started and fetches jobs: until when it does so."""

    SERVES_UNTIL_STOPPED = b"s"
    SERVES_ONCE = b"o"


class Line:
    """The worker's end.

    Attributes
    ----------
    number:
        Which of the supervisor's processes this is, from 1; None where it has just one.
    lock_file:
        File descriptor of the file whose lock makes a line of the log a whole one.
    """

    def __init__(self, sock: socket.socket, number: int | None, lock_file: int) -> None:
        sock.setblocking(False)
        self.number = number
        self.lock_file = lock_file
        self._sock = sock
        self._listening = threading.Event()

    @classmethod
    def inherited(cls) -> Line | None:
        """The line of this process, where a supervisor started it. To be asked once, before a user's code runs.

        Nothing of it is left for the processes that tasks may start, and they find an empty stdin.
        """
        said = os.environ.pop(ENVIRONMENT, None)
        if said is None:
            return None
        told = json.loads(said)
        sock = socket.socket(fileno=os.dup(STDIN))
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, STDIN)
        os.close(empty)
        os.set_inheritable(told["lock_file"], False)
        line = cls(sock, told["number"], told["lock_file"])
        threading.Thread(target=line._watch_start, name="supervisor", daemon=True).start()
        return line

    def _watch_start(self) -> None:
        """An app whose import never ends must not outlive the supervisor."""
        while not self._listening.wait(LOOK_INTERVAL_S):
            with contextlib.suppress(OSError):  # nothing said, or the line was closed just now
                if not self._sock.recv(1, socket.MSG_PEEK):
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    def close(self) -> None:
        self._listening.set()
        self._sock.close()

    def worker_name(self, name: str) -> str:
        """The worker's name, made from the one that all of them were given."""
        return name if self.number is None else f"{name}-{self.number}"

    def report(self, what: Report) -> None:
        # A supervisor that has gone is noticed by whoever reads its orders.
        with contextlib.suppress(OSError):
            self._sock.send(what.value)

    async def orders(self) -> AsyncIterator[Order]:
        """What the supervisor orders, until it is gone."""
        self._listening.set()
        while received := await receive(self._sock):
            for each in received:
                yield Order(bytes([each]))


async def receive(sock: socket.socket) -> bytes:
    """What comes next; nothing when the other side is gone."""
    while True:
        await anyio.wait_readable(sock)
        try:
            return sock.recv(64)
        except BlockingIOError:
            continue
        except ConnectionError:
            return b""
