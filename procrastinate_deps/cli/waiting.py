"""Why a job has not started yet."""

from __future__ import annotations

from dataclasses import dataclass
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
    if job.queue in manager.list_paused_queues():
        yield Wait("queue", f"its queue {job.queue!r}, which is paused", {"queue": job.queue})
    if job.status is Status.TODO and job.lock is not None:
        yield from _lock(manager, job, job.lock)
    workers = [worker for worker in manager.list_workers() if is_live(worker)]
    if not any(worker.queues is None or job.queue in worker.queues for worker in workers):
        yield Wait("worker", f"a worker for its queue {job.queue!r}: none is running", {"queue": job.queue})


def _lock(manager: JobManager, job: Job, lock: str) -> Iterator[Wait]:
    holder = manager.get_lock_holder(lock)
    if holder is not None and holder[0] != job.id:
        job_id, status = holder
        text = f"the lock {lock!r}, which job {job_id} ({status}) has"
        yield Wait("lock", text, {"lock": lock, "job_id": job_id, "status": status})
    elif holder is None and job.gate is Gate.LOCK:
        yield Wait("lock", f"the lock {lock!r}", {"lock": lock, "job_id": None, "status": None})


def is_live(worker: WorkerInfo) -> bool:
    """Whether the worker gave a sign of life lately."""
    return worker.lost_at is None and worker.heartbeat_age_s < STALLED_AFTER_S
