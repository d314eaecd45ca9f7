"""What the loops of one worker share."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any, TypeVar

from procrastinate_deps import __version__, statements
from procrastinate_deps.worker.wakeup import Wakeup

if TYPE_CHECKING:
    from procrastinate_deps.app import App
    from procrastinate_deps.connectors.base import AsyncConnector
    from procrastinate_deps.jobs import Job
    from procrastinate_deps.statements import Statement
    from procrastinate_deps.worker.options import WorkerOptions

T = TypeVar("T")


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
        Set by whoever knows a reason why a fetch could return something now.
    more_to_fetch:
        The last fetch filled every free slot: a slot that becomes free is such a reason. After a fetch that came back
        short it is none; what becomes runnable later announces itself.
    """

    def __init__(self, app: App, connector: AsyncConnector, options: WorkerOptions) -> None:
        self.app = app
        self.connector = connector
        self.options = options
        self.worker_id: int | None = None
        self.registered_at = 0.0
        self.stopping = False
        self.lost = Wakeup()
        self.fetch = Wakeup()
        self.more_to_fetch = False

    async def execute(self, statement: Statement[T]) -> T:
        return await self.connector.execute_async(statement)

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
