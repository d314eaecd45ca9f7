"""Servers and a network of a test's own, which it may break."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import threading
from typing import TYPE_CHECKING

from procrastinate_deps._embedded.cluster import SOCKET_NAME, SUPERUSER, Cluster
from procrastinate_deps._embedded.locks import FileLock
from procrastinate_deps.connectors import SyncPsycopgConnector
from procrastinate_deps.schema import SchemaManager
from tests.places import server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "app"
# A commit that was answered is there after a crash of the server, if not of the machine.
SETTINGS = {"fsync": "off", "synchronous_commit": "on", "max_connections": "100"}


class OwnServer:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(DATABASE)

    def start(self) -> None:
        with FileLock(self.cluster.mutex_file):
            self.cluster.start()

    def crash(self) -> None:
        """End all its processes at once: what isn't committed is lost."""
        with FileLock(self.cluster.mutex_file):
            done = self.cluster.run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w", "-s")
        if done.returncode != 0:
            raise RuntimeError(done.stdout)

    def kill(self) -> None:
        """Like `crash`, and it isn't even told: SIGKILL for the server and all its children."""
        pid = self.cluster.server_pid()
        if pid is None:
            raise RuntimeError("the server doesn't run")
        children = [int(child) for child in _children(pid)]
        for each in (pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def migrate(self) -> None:
        self.cluster.ensure_database(DATABASE)
        with SyncPsycopgConnector(conninfo=self.dsn) as connector:
            SchemaManager(connector).apply()


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123 - of the kernel
        return file.read().split()


@contextlib.contextmanager
def own_server(server: Cluster, **settings: str) -> Iterator[OwnServer]:
    """A server with the same programs, of nobody else's."""
    folder = server_folder("pd-own-")
    cluster = dataclasses.replace(server, directory=folder, settings=SETTINGS | settings, temporary=True)
    own = OwnServer(cluster)
    try:
        own.start()
        yield own
    finally:
        if cluster.server_pid() is not None:
            own.crash()
        shutil.rmtree(folder)


class Network:
    """A TCP port in front of a server's socket, which can fall silent without a word."""

    def __init__(self, cluster: Cluster) -> None:
        self._target = str(cluster.socket_directory / SOCKET_NAME)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._wires: list[_Wire] = []
        self._silent = False
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def dsn(self, database: str = DATABASE) -> str:
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self._listener.getsockname()[1]}/{database}?sslmode=disable"

    def fall_silent(self, *, for_all: bool = False) -> None:
        """From now on nothing passes on the connections that are open now, and neither side hears of that.

        `for_all`: on those that are made later neither.
        """
        self._silent = for_all
        for wire in list(self._wires):
            wire.flows.clear()

    def speak_again(self) -> None:
        """What was said meanwhile arrives now."""
        self._silent = False
        for wire in list(self._wires):
            wire.flows.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for wire in self._wires:
            wire.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            self._wires.append(_Wire(client, server, silent=self._silent))


class _Wire:
    def __init__(self, client: socket.socket, server: socket.socket, *, silent: bool) -> None:
        self.flows = threading.Event()
        if not silent:
            self.flows.set()
        self._ends = (client, server)
        self._pumps = [
            threading.Thread(target=self._pass_on, args=pair) for pair in ((client, server), (server, client))
        ]
        for pump in self._pumps:
            pump.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := source.recv(65536):
                self.flows.wait()
                sink.sendall(said)
        self.flows.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.flows.set()
        for pump in self._pumps:
            pump.join()
        for end in self._ends:
            end.close()


@contextlib.contextmanager
def network(cluster: Cluster) -> Iterator[Network]:
    between = Network(cluster)
    try:
        yield between
    finally:
        between.close()
