"""What goes wrong: each function strikes once, at a moment when jobs run."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from tests.chaos import servers

if TYPE_CHECKING:
    from tests.chaos.crew import Hand
    from tests.chaos.trial import Trial

RUNNING = """
    SELECT w.id, w.pid
    FROM procrastinate_deps.workers AS w
    WHERE w.lost_at IS NULL AND w.pid = ANY (%s)
        AND EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.status = 'doing' AND j.worker_id = w.id)
    ORDER BY random()
    LIMIT 1
"""
SOMETHING_RUNS = "SELECT FROM procrastinate_deps.jobs WHERE status = 'doing' LIMIT 1"
# Of a worker that sleeps, by its connections' name: what it sent before has been done. A statement of which it had sent
# the first half only is active, and its backend waits for the rest.
AT_REST = """
    SELECT
    WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s AND state = 'active'
                      AND wait_event IS DISTINCT FROM 'ClientRead')
"""
HAS_JOBS = "SELECT FROM procrastinate_deps.jobs WHERE status = 'doing' AND worker_id = %s LIMIT 1"
# Of a worker that sleeps: its jobs are somebody else's, and have ended there.
ALL_RESCUED = """
    SELECT
    WHERE EXISTS (SELECT FROM procrastinate_deps.job_events WHERE type = 'rescued' AND worker_id = %s)
        AND NOT EXISTS (SELECT FROM procrastinate_deps.jobs WHERE status = 'doing' AND worker_id = %s)
"""
RESCUED_FROM = "SELECT job_id FROM procrastinate_deps.job_events WHERE type = 'rescued' AND worker_id = %s"
ALL_ENDED = """
    SELECT WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs WHERE id = ANY (%s) AND finished_at IS NULL)
"""
ROWS = "SELECT * FROM procrastinate_deps.jobs WHERE id = ANY (%s) ORDER BY id"
# A listening connection is idle in its LISTEN.
CONNECTED = """
    SELECT
    WHERE EXISTS (SELECT FROM procrastinate_deps.jobs WHERE status = 'doing')
        AND (SELECT count(DISTINCT application_name) FROM pg_stat_activity
             WHERE application_name = ANY (%s) AND query LIKE 'LISTEN%%') = %s
"""
# What a worker says when it has no database.
TROUBLES = ("listen_lost", "fetch_error", "finish_error", "heartbeat_error", "rescue_error", "register_error")


def busy_hand(trial: Trial) -> tuple[Hand, int]:
    """A worker that had running jobs a moment ago, and its id."""
    pids = [hand.pid for hand in trial.crew.hands.values() if hand.alive]
    worker_id, pid = trial.wait_for_row("a worker with running jobs", RUNNING, pids)
    return trial.hand_of(pid), worker_id


def kill_one(trial: Trial) -> None:
    """By SIGKILL; another process takes its place, and works before the next one is killed."""
    hand, worker_id = busy_hand(trial)
    trial.killed.add(worker_id)
    hand.process.kill()
    hand.process.wait()
    trial.crew.replace(hand.name).wait_for("start_worker")


def terminate_connections(trial: Trial) -> None:
    """All that the workers have, at once: at a moment when each has some to run its statements, and one to listen."""
    names = list(trial.crew.hands)
    trial.wait_for_row("every worker listening, and running jobs", CONNECTED, names, len(names))
    trial.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ANY (%s)",
        names,
    )


def restart_server(trial: Trial) -> None:
    """In immediate mode: whatever is not committed is gone, and every connection. It stays away until all know it."""
    trial.wait_for_row("running jobs", SOMETHING_RUNS)
    before = {hand: _troubles(hand) for hand in trial.crew.hands.values()}
    servers.crash(trial.cluster)
    for hand, count in before.items():
        hand.wait_until(partial(_has_more_troubles, hand, count), "it didn't notice that its database is away")
    servers.recover(trial.cluster)


def stop_one(trial: Trial) -> tuple[Hand, int]:
    """By SIGSTOP: as when a laptop's lid is closed, or a virtual machine is moved.

    One whose last statement ended all that it ran is woken at once, and another one is stopped.
    """
    while True:
        hand, worker_id = busy_hand(trial)
        hand.send(signal.SIGSTOP)
        os.waitid(os.P_PID, hand.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        trial.wait_for_row("the end of its last statement", AT_REST, hand.name)
        if trial.query(HAS_JOBS, worker_id):
            trial.killed.add(worker_id)
            return hand, worker_id
        hand.send(signal.SIGCONT)


def _troubles(hand: Hand) -> int:
    return sum(hand.count(action) for action in TROUBLES)


def _has_more_troubles(hand: Hand, count: int) -> bool:
    return _troubles(hand) > count
