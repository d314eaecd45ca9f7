"""Why a job has not started yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from procrastinate_deps.cli.output import as_json, moment
from procrastinate_deps.jobs import TERMINAL, Gate, Job, Status
from procrastinate_deps.statements import STALLED_AFTER_S
from procrastinate_deps.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from procrastinate_deps.jobs import WorkerInfo
    from procrastinate_deps.manager import JobManager


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that a job waits for: `kind` is parent, schedule, queue, lock or worker."""

    kind: str
    text: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, **as_json(self.details)}


def waits(manager: JobManager, job: Job, parents: Mapping[int, str]) -> Iterator[Wait]:
    """What the job waits for, in the order of a job's gates; nothing for one that has started."""
    if job.status not in (Status.BLOCKED, Status.TODO):
        return
    if not job.ignores_dependencies:
        for parent, status in parents.items():
            if Status(status) not in TERMINAL:
                yield Wait("parent", f"parent {parent}, which is {status}", {"job_id": parent, "status": status})
    if job.scheduled_at is not None and job.scheduled_at > utc_now():
        yield Wait("schedule", f"its time, {moment(job.scheduled_at)}", {"until": job.scheduled_at})
    if any(queue["paused"] for queue in manager.list_queues(queue=job.queue)):
        yield Wait("queue", f"its queue {job.queue!r}, which is paused", {"queue": job.queue})
    if job.status is Status.TODO and job.lock is not None:
        yield from _lock(manager, job, job.lock)
    workers = [worker for worker in manager.list_workers() if is_live(worker)]
    if not any(worker.queues is None or job.queue in worker.queues for worker in workers):
        yield Wait("worker", f"a worker for its queue {job.queue!r}: none is running", {"queue": job.queue})


def _lock(manager: JobManager, job: Job, lock: str) -> Iterator[Wait]:
    holders = manager.list_jobs(lock=lock, status=Status.DOING, limit=1)
    if not holders and job.gate is Gate.LOCK:
        # granted to a job that has not started: of those that may start, the first in the line
        line = [other for other in manager.list_jobs(lock=lock, status=Status.TODO) if other.gate is None]
        holders = sorted(line, key=lambda other: (-other.priority, other.id))[:1]
    if holders:
        holder = holders[0]
        text = f"the lock {lock!r}, which job {holder.id} ({holder.status}) has"
        yield Wait("lock", text, {"lock": lock, "job_id": holder.id, "status": holder.status})
    elif job.gate is Gate.LOCK:
        yield Wait("lock", f"the lock {lock!r}", {"lock": lock, "job_id": None, "status": None})


def is_live(worker: WorkerInfo) -> bool:
    """Whether the worker gave a sign of life lately."""
    return worker.lost_at is None and utc_now() - worker.heartbeat_at < timedelta(seconds=STALLED_AFTER_S)
