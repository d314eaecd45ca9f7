"""A network between the workers and their server that can lose answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

from procrastinate_deps._embedded.cluster import SOCKET_NAME, SOCKET_PORT, SUPERUSER
from tests.chaos.servers import DATABASE

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES = 65536


class Network:
    """Passes on what each side says, by a socket of its own."""

    def __init__(self, folder: Path, server: Path) -> None:
        self._server = str(server / SOCKET_NAME)
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET_NAME))
        self._listener.listen(64)
        self._lock = threading.Lock()
        self._wires: set[_Wire] = set()
        self.answers_lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def dsn(self) -> str:
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(self._folder), safe='/')}&port={SOCKET_PORT}"

    def lose_answers(self) -> None:
        """The next thing that the server says on each connection is lost, and the connection with it."""
        with self._lock:
            for wire in self._wires:
                wire.loses = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for wire in self._wires:
                wire.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                server.close()
                continue
            wire = _Wire(client, server)
            with self._lock:
                self._wires.add(wire)
            for pump in (self._ask, self._answer):
                threading.Thread(target=pump, args=[wire], daemon=True).start()

    def _ask(self, wire: _Wire) -> None:
        with contextlib.suppress(OSError):
            while said := wire.client.recv(CHUNK_BYTES):
                wire.server.sendall(said)
        wire.cut()

    def _answer(self, wire: _Wire) -> None:
        with contextlib.suppress(OSError):
            while said := wire.server.recv(CHUNK_BYTES):
                if wire.loses:
                    self.answers_lost += 1
                    break
                wire.client.sendall(said)
        wire.cut()
        with self._lock:
            self._wires.discard(wire)
        wire.client.close()
        wire.server.close()


class _Wire:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.loses = False

    def cut(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
