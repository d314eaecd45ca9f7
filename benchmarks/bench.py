"""What a measurement works with: the server, the sizes, and the templates that its databases are copied from."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks import backlog
from benchmarks.crew import Installed
from benchmarks.environments import REPOSITORY
from benchmarks.server import Server
from benchmarks.sizes import Sizes

FETCHED = 10
"""Jobs in each fetch that is timed."""

KINDS = ("empty", "due", "scheduled", "blocked", "fetch", "fetch-behind", "ceiling")


@dataclass(frozen=True, slots=True)
class Bench:
    """turn: the round, from 0."""

    server: Server
    sizes: Sizes
    turn: int = 0

    @contextlib.contextmanager
    def fresh(self, installed: Installed, kind: str, name: str = "run") -> Iterator[str]:
        """A database of this kind, for one run: see `_fill`."""
        with self.server.fresh(self.template(installed, kind), name) as database:
            yield database

    def template(self, installed: Installed, kind: str) -> str:
        """The name of a database of this kind, which is made where it is not there. It is vacuumed and analyzed."""
        name = self.template_name(installed, kind)
        if name not in self.server.databases():
            if kind not in ("empty", "due"):
                print(f"  making the template {kind} of {installed.peer.environment}", flush=True)
            unfinished = f"{self.server.prefix}_unfinished"
            self.server.drop(unfinished)
            self.server.create(unfinished, "template0" if kind == "empty" else self.template(installed, "empty"))
            self._fill(installed, kind, unfinished)
            self.server.settle(unfinished)
            self.server.rename(unfinished, name)
        return name

    def template_name(self, installed: Installed, kind: str) -> str:
        key = hashlib.sha256(f"{kind} {self.sizes} {_schema(installed)}".encode()).hexdigest()[:8]
        return f"{self.server.prefix}_t_{installed.peer.environment}_{kind}_{key}".replace("-", "_")

    def _fill(self, installed: Installed, kind: str, database: str) -> None:
        dsn, sizes = self.server.dsn(database), self.sizes
        match kind:
            case "empty":
                installed.call(dsn, "migrate")
            case "due":
                installed.call(dsn, "batch", sizes.drained)
            case "scheduled":
                installed.call(dsn, "batch", sizes.scheduled, "scheduled")
                installed.call(dsn, "batch", sizes.drained)
            case "blocked":
                self._load(database, blocked=sizes.blocked)
                installed.call(dsn, "batch", sizes.drained)
            case "fetch":
                self._load(database, ready=FETCHED * sizes.fetches)
            case "fetch-behind":
                self._load(database, blocked=sizes.blocked, finished=sizes.finished, ready=FETCHED * sizes.fetches)
            case "ceiling":
                self._load(database, ready=sizes.ceiling_jobs)
            case _:
                raise ValueError(f"no template is of the kind {kind!r}")

    def _load(self, database: str, *, blocked: int = 0, finished: int = 0, ready: int = 0) -> None:
        with self.server.connection(database) as connection:
            backlog.load(connection, blocked=blocked, finished=finished)
            if ready:
                connection.execute(backlog.READY, [ready])
            backlog.verify(connection)

    def drop_outdated(self, all_installed: Iterable[Installed]) -> None:
        """Drop templates of other versions or sizes, and what an interrupted run has left."""
        present = {self.template_name(installed, kind) for installed in all_installed for kind in KINDS}
        for name in self.server.databases():
            if name not in present:
                self.server.drop(name)

    def drop_all(self) -> None:
        for name in self.server.databases():
            self.server.drop(name)


def _schema(installed: Installed) -> str:
    """What decides how the tables look, and what is in them."""
    text = installed.peer.requirements.read_text()
    if installed.peer.ours:
        for path in sorted((REPOSITORY / "migrations" / "versions").glob("*.*")):
            text += path.read_text()
        text += backlog.FINISHED + backlog.PARENTS + backlog.BLOCKED + backlog.READY
    return text
