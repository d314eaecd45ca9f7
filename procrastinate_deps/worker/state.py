"""What the loops of one worker share."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from procrastinate_deps import __version__, statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker.troubles import READ_ONLY
from procrastinate_deps.worker.wakeup import Wakeup

if TYPE_CHECKING:
    from procrastinate_deps.app import App
    from procrastinate_deps.connectors.base import AsyncConnector
    from procrastinate_deps.jobs import Job
    from procrastinate_deps.statements import Statement
    from procrastinate_deps.worker.options import WorkerOptions

T = TypeVar("T")

# A statement without an answer is given up after `stalled_worker_timeout`; one that takes so long because there is much
# to do gets twice that time at its next attempt, and so on, at most so many times as much.
MAX_PATIENCE = 16


class WorkerState:
    """One run of a worker, from its registration to its end.

    Attributes
    ----------
    worker_id:
        Id of the worker's row; None while it has none that is alive, and then nothing is fetched.
    registered_at:
        When the registration was sent, on the monotonic clock: the row is known to be alive from then.
    stopping:
        Nothing is fetched any more.
    lost:
        Set by whoever hears that the database knows this registration no more.
    fetch:
        Set by whoever has an outcome to record or knows a reason why a fetch could return something now.
    workflow_changed:
        Set when jobs of workflows have ended.
    """

    def __init__(self, app: App, connector: AsyncConnector, options: WorkerOptions) -> None:
        self.app = app
        self.connector = connector
        self.options = options
        self.worker_id: int | None = None
        self.registered_at = 0.0
        self.stopping = False
        # Of statements that were given up lately: how many times as long they are waited for.
        self._patience: dict[str, int] = {}
        self.lost = Wakeup()
        self.fetch = Wakeup()
        self.workflow_changed = Wakeup()
        self._in_flight = 0
        self._answered = Wakeup()

    async def execute(self, statement: Statement[T], limit_s: float | None = None) -> T:
        """Run a statement.

        Raises ConnectorException when there is no answer within `limit_s` seconds, by default those after which this
        worker is lost: a peer that has vanished is not waited for, and no connection to it is used again.
        """
        if self.stopping:
            # A loop that was woken before the others were cancelled begins nothing that would be cut off.
            await checkpoint_if_cancelled()
        patience = self._patience.get(statement.name, 1) if self._patience else 1
        if limit_s is None:
            limit_s = self.options.stalled_worker_timeout * patience
        self._in_flight += 1
        try:
            with anyio.move_on_after(limit_s):
                result = await self.connector.execute_async(statement)
                if self._patience:
                    self._patience.pop(statement.name, None)
                return result
        except ConnectorException as error:
            if error.sqlstate == READ_ONLY:
                await self.connector.renew_async()
            raise
        finally:
            self._in_flight -= 1
            self._answered.set()
        self._patience[statement.name] = min(2 * patience, MAX_PATIENCE)
        await self.connector.renew_async()
        raise ConnectorException(
            f"no answer to {statement.name} within {limit_s:g} s: from the server, on the way to it, or for want of a "
            "free connection in the pool"
        )

    async def quiet(self) -> None:
        """Wait for a moment at which no statement is under way: who is cancelled then closes no connection."""
        while self._in_flight:
            self._answered.clear()
            await self._answered.wait()

    async def register(self) -> None:
        sent_at = time.monotonic()
        self.worker_id = await self.execute(
            statements.register_worker(
                name=self.options.worker_name,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                queues=self.options.queue_names,
                concurrency=self.options.concurrency,
                version=__version__,
            )
        )
        self.registered_at = sent_at

    def serves(self, queue: str) -> bool:
        return self.options.queue_names is None or queue in self.options.queue_names

    def log_extra(self, action: str, job: Job | None = None, **more: Any) -> dict[str, Any]:
        """`extra` of a log record: what happened, to which job, where."""
        extra = {"action": action, "worker_name": self.options.worker_name, "worker_id": self.worker_id, **more}
        if job is not None:
            extra |= {"job_id": job.id, "task_name": job.task_name, "queue": job.queue, "attempt": job.attempts + 1}
        return extra
