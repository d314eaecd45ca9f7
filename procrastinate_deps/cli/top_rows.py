"""What `top` says of each queue, worker, job and failure, cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.cli.durations import counted, duration
from procrastinate_deps.cli.output import safe
from procrastinate_deps.cli.trees import progress_text
from procrastinate_deps.cli.waiting import is_live
from procrastinate_deps.cli.watching import what

if TYPE_CHECKING:
    from procrastinate_deps.cli.top import Frame

QUEUES = ("queue", "state", "ready", "doing", "scheduled", "locked", "blocked", "oldest", "runs/h", "failures/h")
WORKERS = ("worker", "name", "state", "load", "heartbeat", "queues", "host")
RUNNING = ("job", "what", "queue", "worker", "for", "progress")
FAILURES = ("job", "what", "queue", "ended", "error")


def summary(frame: Frame) -> str:
    live = [each for each in frame.workers if is_live(each)]
    slots = sum(each.concurrency for each in live)
    ready = sum(each.ready for each in frame.queues)
    more = "+" if any(each.ready_capped for each in frame.queues) else ""
    blocked = sum(each.blocked for each in frame.queues)
    return (
        f"{counted(len(live), 'live worker')} with {counted(slots, 'slot')}, {frame.running.count:,} doing, "
        f"{ready:,}{more} ready, {blocked:,} blocked"
    )


def queues(frame: Frame) -> list[tuple[str, ...]]:
    """The busiest first."""
    rows = sorted(frame.queues, key=lambda each: (-each.doing, -each.ready, -each.blocked, each.name))
    return [
        (
            safe(each.name),
            "" if each.paused_at is None else "paused",
            f"{each.ready:,}{'+' if each.ready_capped else ''}",
            f"{each.doing:,}",
            f"{each.scheduled:,}",
            f"{each.locked:,}",
            f"{each.blocked:,}",
            "" if each.oldest_ready_at is None else duration((frame.at - each.oldest_ready_at).total_seconds()),
            f"{each.runs_last_hour:,}",
            f"{each.failures_last_hour:,}",
        )
        for each in rows
    ]


def workers(frame: Frame) -> list[tuple[str, ...]]:
    return [
        (
            str(each.id),
            safe(each.name),
            "live" if is_live(each) else "stalled" if each.lost_at is None else "lost",
            f"{each.running} of {each.concurrency}",
            f"{duration(each.heartbeat_age_s)} ago",
            "all" if each.queues is None else safe(", ".join(each.queues)),
            safe(f"{each.hostname}, {each.pid}"),
        )
        for each in frame.workers
    ]


def running(frame: Frame) -> list[tuple[str, ...]]:
    return [
        (
            str(each.id),
            safe(what(each)),
            safe(each.queue),
            str(each.worker_id),
            duration(each.run_s),
            safe(
                ("asked to abort " if each.abort_requested else "")
                + (
                    ""
                    if each.progress_done is None
                    else progress_text(each.progress_done, each.progress_total, each.progress_message)
                )
            ),
        )
        for each in frame.running.jobs
    ]


def failures(frame: Frame) -> list[tuple[str, ...]]:
    return [
        (
            str(each.id),
            safe(".".join(each.task_name.split(".")[-2:])),
            safe(each.queue),
            f"{duration((frame.at - each.finished_at).total_seconds())} ago",
            safe(each.error),
        )
        for each in frame.failures
    ]
