"""
Every protective lock of sql/functions, taken out one at a time, and the race that must then be seen to fail.

A knock-out is an edit of one function's text, made in the test's own database. Each text to be replaced occurs exactly
once in its file, so that a knock-out can't rot unseen when the function is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.races import test_edge_races as edge_races
from tests.races import test_exchange_races as exchange_races
from tests.races import test_lock_races as lock_races
from tests.races import test_races as races
from tests.races import test_worker_races as worker_races

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.races.sessions import Race

FUNCTIONS = Path(__file__).parents[2] / "sql" / "functions"
JOBS, LOCKS = "procrastinate_deps.jobs", "procrastinate_deps.locks"
# The foreign key of an edge takes KEY SHARE on the parent by itself; without it the explicit lock stands alone.
NO_PARENT_KEY = "ALTER TABLE procrastinate_deps.job_dependencies DROP CONSTRAINT job_dependencies_parent_fkey"


@dataclass(frozen=True)
class Knockout:
    name: str
    function: str
    edits: tuple[tuple[str, str], ...]
    race: Callable[[Race], Awaitable[None]]
    # what the race must report: a regular expression, searched in the text of its failure
    damage: str
    # what else has to go for this lock to stand alone
    also: str = ""

    def text(self) -> str:
        """The function's text without the lock; the triggers that follow it in the file stay as they are."""
        text = (FUNCTIONS / f"{self.function}.sql").read_text()
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"{self.function}.sql has {text.count(old)} times, not once: {old!r}")
            text = text.replace(old, new)
        return text[: text.index("$$;") + 3].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)


STUCK = "counters of a blocked job are right|left waiting for ever"
DEADLOCK = "deadlock detected"
RELEASED_EARLY = r"\['todo', 'todo'\]"

KNOCKOUTS = [
    # settle
    Knockout(
        "settle locks wave by wave instead of guessing ahead",
        "settle",
        (
            (
                "children := children || procrastinate_deps.touched_by(e.doomed);",
                "NULL;",
            ),
        ),
        partial(races.test_cascades_that_reach_each_others_children, first="finish", second="finish"),
        DEADLOCK,
    ),
    Knockout(
        "settle locks children in no order",
        "settle",
        (
            (
                f"PERFORM 1 FROM {JOBS} WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;",
                f"""PERFORM 1 FROM {JOBS} WHERE id = ANY (children)
            ORDER BY id * coalesce(nullif(current_setting('race.lock_order', true), ''), '1')::bigint
            FOR NO KEY UPDATE;""",
            ),
        ),
        races.test_shared_children_in_opposite_order,
        DEADLOCK,
    ),
    Knockout(
        "settle does not lock the children",
        "settle",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;", ""),),
        races.test_many_are_cancelled_by_hand_while_one_of_them_is_released,
        DEADLOCK,
    ),
    Knockout(
        "settle cancels without FOR UPDATE",
        "settle",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = ANY (doomed) ORDER BY id FOR UPDATE;", ""),),
        partial(races.test_a_cascade_waits_for_an_open_deferral_under_a_job_it_cancels, way="finish"),
        f"{STUCK}|'blocked'",
    ),
    # plain UPDATE
    Knockout(
        "a plain end does not take its row FOR UPDATE",
        "guard_job_update",
        (
            (
                f"PERFORM 1 FROM {JOBS} WHERE id = OLD.id FOR UPDATE;\n        NEW.finished_at := now();",
                "NEW.finished_at := now();",
            ),
        ),
        partial(races.test_an_end_waits_for_an_open_deferral_of_a_child, way="update"),
        f"{STUCK}|'blocked'",
    ),
    Knockout(
        "cancel_job does not take its row FOR UPDATE",
        "guard_job_update",
        (
            (
                f"PERFORM 1 FROM {JOBS} WHERE id = OLD.id FOR UPDATE;\n        NEW.finished_at := now();",
                "NEW.finished_at := now();",
            ),
        ),
        partial(races.test_an_end_waits_for_an_open_deferral_of_a_child, way="cancel"),
        f"{STUCK}|'blocked'",
    ),
    Knockout(
        "a plain revival does not take its row FOR UPDATE",
        "guard_job_update",
        (
            (
                f"PERFORM 1 FROM {JOBS} WHERE id = OLD.id FOR UPDATE;\n        NEW.finished_at := NULL;",
                "NEW.finished_at := NULL;",
            ),
        ),
        partial(edge_races.test_a_revival_waits_for_an_open_deferral_of_a_child, how="plain"),
        "a todo job that was not claimed has no live parent",
    ),
    # defer_jobs
    Knockout(
        "a deferral does not lock the parents",
        "insert_jobs",
        (("WHERE id = ANY (parents) ORDER BY id FOR KEY SHARE);", "WHERE id = ANY (parents) ORDER BY id);"),),
        partial(races.test_a_deferral_waits_for_an_open_end_of_its_parent, way="delete"),
        "23503",
    ),
    Knockout(
        "a deferral does not lock the parents, nor does the foreign key",
        "insert_jobs",
        (("WHERE id = ANY (parents) ORDER BY id FOR KEY SHARE);", "WHERE id = ANY (parents) ORDER BY id);"),),
        races.test_finish_is_busy_during_an_open_deferral_of_a_child,
        f"{STUCK}|'blocked'",
        also=NO_PARENT_KEY,
    ),
    Knockout(
        "a deferral reads the parents' statuses in the statement that locks them",
        "insert_jobs",
        (
            ("WHERE id = ANY (parents) ORDER BY id FOR KEY SHARE);", "WHERE id = ANY (parents) ORDER BY id);"),
            (
                "WHERE x.id = ids[c.child] AND (x.status = 'blocked') IS TRUE OFFSET 0\n            ) AS j\n",
                f"""WHERE x.id = ids[c.child] OFFSET 0) AS j
                WHERE (SELECT count(*)
                    FROM (SELECT FROM {JOBS} WHERE id = ANY (parents) FOR KEY SHARE) AS held) > 0\n""",
            ),
        ),
        partial(races.test_a_deferral_waits_for_an_open_end_of_its_parent, way="finish"),
        f"{STUCK}|'blocked'",
        also=NO_PARENT_KEY,
    ),
    # edges
    Knockout(
        "add_dependencies takes no advisory lock",
        "add_dependencies",
        (("PERFORM pg_advisory_xact_lock(procrastinate_deps.graph_key());", ""),),
        edge_races.test_opposite_edges_at_once,
        STUCK,
    ),
    Knockout(
        "add_dependencies looks for cycles in the statement that takes the advisory lock",
        "add_dependencies",
        (
            ("PERFORM pg_advisory_xact_lock(procrastinate_deps.graph_key());", ""),
            (
                "cycle := procrastinate_deps.find_cycle(child, parents);",
                """SELECT CASE WHEN held.taken IS NOT NULL THEN procrastinate_deps.find_cycle(child, parents) END
                INTO cycle
                FROM (SELECT pg_advisory_xact_lock(procrastinate_deps.graph_key())::text AS taken OFFSET 0) AS held;""",
            ),
        ),
        edge_races.test_opposite_edges_at_once,
        STUCK,
    ),
    Knockout(
        "add_dependencies does not lock the child",
        "add_dependencies",
        ((f"SELECT * INTO job FROM {JOBS} WHERE id = r FOR UPDATE;", f"SELECT * INTO job FROM {JOBS} WHERE id = r;"),),
        edge_races.test_an_edge_is_added_while_its_child_is_claimed,
        "a running job was blocked",
    ),
    Knockout(
        "add_dependencies does not lock the parents",
        "add_dependencies",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = r FOR KEY SHARE;", "NULL;"),),
        edge_races.test_an_edge_is_added_while_a_present_parent_ends,
        STUCK,
    ),
    Knockout(
        "an edge removed by hand does not lock the child",
        "settle_edge_delete",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;", ""),),
        partial(
            edge_races.test_an_edge_is_removed_by_hand_while_its_child_is_blocked_anew,
            removal="plain",
            edge="ended",
            first="reviver",
        ),
        STUCK,
    ),
    Knockout(
        "an edge removed by hand does not lock a blocked child",
        "settle_edge_delete",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;", ""),),
        partial(
            edge_races.test_an_edge_is_removed_by_hand_while_its_child_is_blocked_anew,
            removal="plain",
            edge="live",
            first="reviver",
        ),
        f"{STUCK}|cancelled by its rule has no live parent|{DEADLOCK}",
    ),
    Knockout(
        "remove_dependencies does not lock the child",
        "remove_dependencies",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = child FOR NO KEY UPDATE;", f"PERFORM 1 FROM {JOBS} WHERE id = child;"),),
        edge_races.test_a_deleted_parent_is_forgotten_while_another_one_ends,
        STUCK,
    ),
    # deleting
    Knockout(
        "deleting a live parent does not lock the children",
        "record_deleted_parent",
        (("FOR NO KEY UPDATE OF c;", ";"),),
        partial(edge_races.test_a_parent_is_deleted_while_its_child_is_deleted, ended=False),
        "deleted_parents_child_fkey",
    ),
    Knockout(
        "deleting a live parent locks the children too weakly at first",
        "record_deleted_parent",
        (("FOR NO KEY UPDATE OF c;", "FOR KEY SHARE OF c;"),),
        edge_races.test_a_parent_is_deleted_while_its_child_is_cancelled,
        DEADLOCK,
    ),
    Knockout(
        "deleting an ended parent does not lock the children",
        "record_deleted_parent",
        (("FOR KEY SHARE OF c;", ";"),),
        partial(edge_races.test_a_parent_is_deleted_while_its_child_is_deleted, ended=True),
        "deleted_parents_child_fkey",
    ),
    Knockout(
        "pruning does not lock what it deletes",
        "prune_jobs",
        (("FOR UPDATE OF j SKIP LOCKED", ""),),
        edge_races.test_pruning_leaves_a_parent_to_which_a_child_is_just_added,
        "the child's parent is gone",
    ),
    # revival
    Knockout(
        "a retry does not take the job FOR UPDATE",
        "retry_job",
        (("WHERE j.id = retry_job.job_id FOR UPDATE;", "WHERE j.id = retry_job.job_id FOR NO KEY UPDATE;"),),
        partial(edge_races.test_a_revival_waits_for_an_open_deferral_of_a_child, how="verb"),
        "a todo job that was not claimed has no live parent|'todo', 'todo'",
    ),
    Knockout(
        "a revival does not take the dependents FOR UPDATE",
        "hold_revival",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = r.id FOR UPDATE;", "NULL;"),),
        edge_races.test_a_revival_waits_for_an_open_deferral_under_a_dependent,
        "a todo job that was not claimed has no live parent",
    ),
    Knockout(
        "a revival blocks a dependent that is being claimed",
        "hold_revival",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = r.id FOR UPDATE;", "NULL;"),),
        edge_races.test_a_dependent_is_claimed_while_its_parent_is_revived,
        "'blocked'",
    ),
    Knockout(
        "a revival does not lock the parents of whom it blocks",
        "hold_revival",
        ((f"PERFORM 1 FROM {JOBS} WHERE id = r.id FOR KEY SHARE;", "NULL;"),),
        edge_races.test_a_job_is_revived_while_its_parent_ends,
        STUCK,
    ),
    Knockout(
        "a revival does not lock by id",
        "hold_revival",
        (("ORDER BY x.id\n", "ORDER BY x.id DESC\n"),),
        edge_races.test_a_revival_and_a_cascade_meet_at_shared_children,
        DEADLOCK,
    ),
    # finish_jobs
    Knockout(
        "finish_jobs takes its jobs FOR NO KEY UPDATE",
        "finish_jobs",
        (("FOR UPDATE SKIP LOCKED", "FOR NO KEY UPDATE SKIP LOCKED"),),
        races.test_finish_is_busy_during_an_open_deferral_of_a_child,
        f"{STUCK}|'blocked'",
    ),
    *(
        Knockout(
            f"finish_jobs takes its jobs FOR NO KEY UPDATE, while {what}",
            "finish_jobs",
            (("FOR UPDATE SKIP LOCKED", "FOR NO KEY UPDATE SKIP LOCKED"),),
            race,
            damage,
        )
        for what, race, damage in (
            (
                "an edge is removed by remove_dependencies",
                partial(
                    edge_races.test_an_edge_is_removed_by_hand_while_its_parents_end_waits_for_a_child,
                    removal="verb",
                    way="finish",
                ),
                RELEASED_EARLY,
            ),
            (
                "an edge is removed by DELETE",
                partial(
                    edge_races.test_an_edge_is_removed_by_hand_while_its_parents_end_waits_for_a_child,
                    removal="plain",
                    way="finish",
                ),
                RELEASED_EARLY,
            ),
            (
                "a child is blocked anew",
                partial(
                    edge_races.test_a_child_is_blocked_anew_while_its_parents_end_waits_for_another_one, way="finish"
                ),
                STUCK,
            ),
        )
    ),
    Knockout(
        "finish_jobs waits for a busy job",
        "finish_jobs",
        (("FOR UPDATE SKIP LOCKED", "FOR UPDATE"),),
        races.test_finish_is_busy_during_an_open_deferral_of_a_child,
        "it waits for an open transaction",
    ),
    Knockout(
        "finish_jobs has no claim fence",
        "finish_jobs",
        (
            ("(x.status = 'doing') IS TRUE AND x.claim = u.claim", "(x.status = 'doing') IS TRUE"),
            ("j.claim = u.claim AND (j.id IN", "(j.id IN"),
        ),
        partial(worker_races.test_a_stale_claim_ends_nothing, status="succeeded"),
        "a lost worker ended its job",
    ),
    Knockout(
        "finish_jobs has no lock_timeout",
        "finish_jobs",
        (("PERFORM set_config('lock_timeout', lock_wait_ms::text, true);", ""),),
        races.test_a_cascade_held_by_an_open_deferral_gives_up_and_then_succeeds_one_by_one,
        "TimeoutError",
    ),
    Knockout(
        "settling with an old snapshot",
        "require_read_committed",
        (("IF current_setting('transaction_isolation') <> 'read committed' THEN", "IF false THEN"),),
        races.test_an_end_with_an_old_snapshot_would_lose_a_child,
        STUCK,
    ),
    Knockout(
        "a retry that conflicts takes its batch along",
        "requeue_jobs",
        (("EXCEPTION WHEN unique_violation THEN", "EXCEPTION WHEN division_by_zero THEN"),),
        partial(worker_races.test_a_retry_meets_an_open_deferral_with_its_queueing_lock, taken=True),
        "jobs_queueing_lock",
    ),
    # fetch_jobs
    Knockout(
        "fetch_jobs takes jobs FOR UPDATE (one queue)",
        "fetch_jobs",
        (
            (
                "LIMIT wanted\n                FOR NO KEY UPDATE SKIP LOCKED",
                "LIMIT wanted\n                FOR UPDATE SKIP LOCKED",
            ),
        ),
        partial(worker_races.test_a_runnable_job_is_fetched_while_a_child_is_added_to_it, queues=["default"]),
        "the runnable job was passed by",
    ),
    Knockout(
        "fetch_jobs takes jobs FOR UPDATE (several queues)",
        "fetch_jobs",
        (
            (
                "ORDER BY ~j.priority, j.id\n                FOR NO KEY UPDATE SKIP LOCKED",
                "ORDER BY ~j.priority, j.id\n                FOR UPDATE SKIP LOCKED",
            ),
        ),
        partial(worker_races.test_a_runnable_job_is_fetched_while_a_child_is_added_to_it, queues=["default", "other"]),
        "the runnable job was passed by",
    ),
    Knockout(
        "fetch_jobs takes due jobs FOR UPDATE",
        "promote_due",
        (("FOR NO KEY UPDATE SKIP LOCKED", "FOR UPDATE SKIP LOCKED"),),
        partial(worker_races.test_a_due_job_is_fetched_while_a_child_is_added_to_it, promoted=False),
        "the due job was passed by",
    ),
    Knockout(
        "fetch_jobs waits for another fetch",
        "fetch_jobs",
        (
            (
                "LIMIT wanted\n                FOR NO KEY UPDATE SKIP LOCKED",
                "LIMIT wanted\n                FOR NO KEY UPDATE",
            ),
        ),
        partial(worker_races.test_fetch_waits_for_no_other_fetch, queues=["default"]),
        "it waits for an open transaction",
    ),
    Knockout(
        "fetch_jobs locks nothing (one queue)",
        "fetch_jobs",
        (("LIMIT wanted\n                FOR NO KEY UPDATE SKIP LOCKED", "LIMIT wanted"),),
        partial(worker_races.test_two_fetches_never_claim_one_job_twice, queues=["default"]),
        "a job was claimed twice",
    ),
    Knockout(
        "fetch_jobs locks nothing (several queues)",
        "fetch_jobs",
        (
            (
                "ORDER BY ~j.priority, j.id\n                FOR NO KEY UPDATE SKIP LOCKED",
                "ORDER BY ~j.priority, j.id",
            ),
        ),
        partial(worker_races.test_two_fetches_never_claim_one_job_twice, queues=["default", "other"]),
        "a job was claimed twice",
    ),
    # finish_jobs and fetch_jobs in one statement
    Knockout(
        "an exchange takes jobs with locks",
        "fetch_jobs",
        (("IF lock_free THEN\n                picked", "IF false THEN\n                picked"),),
        exchange_races.test_an_exchange_waits_for_no_fetch_that_takes_a_lock,
        "it waits for an open transaction",
    ),
    Knockout(
        "an exchange does not say that it left jobs with locks",
        "fetch_jobs",
        (("CASE WHEN with_lock IS NULL THEN 'no' ELSE 'yes' END", "'no'"),),
        exchange_races.test_an_exchange_waits_for_no_fetch_that_takes_a_lock,
        "False",
    ),
    Knockout(
        "what an exchange leaves is not announced",
        "announce_left",
        (("IF cardinality(unannounced) > 0 AND", "IF false AND"),),
        exchange_races.test_what_an_exchange_leaves_is_announced,
        "nobody hears of the job that was left",
    ),
    Knockout(
        "what is in queues of others is not announced",
        "announce_left",
        ((" OR q.queue <> ALL (queues)", ""),),
        exchange_races.test_what_is_in_queues_of_others_is_announced,
        "nobody hears of the job that was left",
    ),
    Knockout(
        "an exchange takes a full batch for all there was",
        "fetch_jobs",
        (("announce_left(all_seen AND with_lock IS NULL,", "announce_left(with_lock IS NULL,"),),
        exchange_races.test_what_an_exchange_leaves_is_announced,
        "nobody hears of the job that was left",
    ),
    Knockout(
        "an exchange takes contention for the end of the queue",
        "fetch_jobs",
        (("announce_left(all_seen AND with_lock IS NULL,", "announce_left(wanted > 0 AND with_lock IS NULL,"),),
        exchange_races.test_what_is_hidden_behind_rows_that_others_hold_is_announced,
        "nobody hears of the job that was left",
    ),
    Knockout(
        "what an exchange leaves because of a lock is not announced",
        "fetch_jobs",
        (("announce_left(all_seen AND with_lock IS NULL,", "announce_left(all_seen,"),),
        exchange_races.test_what_an_exchange_leaves_because_of_its_lock_is_announced,
        "nobody hears of the job that was left",
    ),
    Knockout(
        "a child with a time to wait for is not announced",
        "settle",
        (("notify_queues(queues_scheduled, true)", "notify_queues(queues_scheduled)"),),
        partial(exchange_races.test_what_has_a_time_to_wait_for_is_announced, how="child"),
        "nobody hears of the job that waits for its time",
    ),
    Knockout(
        "a retry with a time to wait for is not announced",
        "requeue_jobs",
        (("AND gate = 'scheduled'), true);", "AND gate = 'scheduled'));"),),
        partial(exchange_races.test_what_has_a_time_to_wait_for_is_announced, how="retry"),
        "nobody hears of the job that waits for its time",
    ),
    Knockout(
        "a fetch that skips dead entries does not look from the start when it finds too little",
        "fetch_jobs",
        (("IF begin_at IS NOT NULL AND coalesce(seen, 0) < wanted THEN", "IF false THEN"),),
        exchange_races.test_a_fetch_that_is_led_astray_finds_what_there_is,
        "left where nobody looks",
    ),
    # locks
    Knockout(
        "a lock is handed to a job that is leaving",
        "hand_over_locks",
        (("        FOR NO KEY UPDATE OF j\n", ""),),
        partial(lock_races.test_the_head_of_a_line_leaves_while_the_lock_is_handed_over, leave="delete"),
        "who holds a lock runs or may start",
    ),
    Knockout(
        "handing over does not lock the line",
        "hand_over_locks",
        ((f"PERFORM 1 FROM {LOCKS} WHERE lock = ANY (lines) ORDER BY lock FOR UPDATE;", ""),),
        lock_races.test_a_fetch_parks_nothing_while_the_finisher_waits_for_the_head,
        "a job parked for a lock waits for somebody",
    ),
    Knockout(
        "handing over does not look out for a pause",
        "hand_over_locks",
        (("PERFORM pg_advisory_xact_lock_shared(procrastinate_deps.pause_key());", ""),),
        lock_races.test_a_queue_is_paused_while_a_lock_is_handed_to_it,
        "who holds a lock runs or may start",
    ),
    Knockout(
        "pausing does not wait for a grant",
        "pause_queue",
        (("PERFORM procrastinate_deps.take_pause_key();", ""),),
        lock_races.test_a_lock_is_handed_to_a_queue_while_it_is_paused,
        "who holds a lock runs or may start",
    ),
    Knockout(
        "resuming does not wait for a grant",
        "resume_queue",
        (("PERFORM procrastinate_deps.take_pause_key();", ""),),
        lock_races.test_a_queue_is_resumed_while_the_holder_of_its_lock_ends,
        "a job parked for a lock waits for somebody",
    ),
    Knockout(
        "a fetch that grants a lock does not look out for a pause",
        "enter_lock_lines",
        (("IF NOT pg_try_advisory_xact_lock_shared(procrastinate_deps.pause_key()) THEN", "IF false THEN"),),
        lock_races.test_a_queue_is_paused_while_a_fetch_grants_it_a_lock,
        "who holds a lock runs or may start",
    ),
    Knockout(
        "a fetch parks without locking the line",
        "enter_lock_lines",
        (("WHERE l.lock = ANY (known) ORDER BY l.lock FOR UPDATE SKIP LOCKED);", "WHERE l.lock = ANY (known));"),),
        lock_races.test_a_fetch_parks_nothing_behind_a_row_that_is_about_to_go,
        "a job parked for a lock waits for somebody",
    ),
    Knockout(
        "a fetch waits for a line",
        "enter_lock_lines",
        (("ORDER BY l.lock FOR UPDATE SKIP LOCKED);", "ORDER BY l.lock FOR UPDATE);"),),
        lock_races.test_fetch_does_not_wait_for_an_open_cancel_of_a_parked_job,
        "it waits for an open transaction",
    ),
    Knockout(
        "a fetch waits for the head of a line",
        "enter_lock_lines",
        (("FOR NO KEY UPDATE OF j SKIP LOCKED);", "FOR NO KEY UPDATE OF j);"),),
        lock_races.test_fetch_does_not_wait_for_a_head_that_is_raised_in_another_queue,
        "it waits for an open transaction",
    ),
    Knockout(
        "a fetch grants a lock to a job that is leaving",
        "enter_lock_lines",
        (("        FOR NO KEY UPDATE OF j SKIP LOCKED);", ");"),),
        lock_races.test_fetch_does_not_wait_for_an_open_cancel_of_another_job_of_the_lock,
        "who holds a lock runs or may start",
    ),
    # rescue
    Knockout(
        "rescuers do not lock",
        "rescue_jobs",
        (("FOR UPDATE OF j SKIP LOCKED", ""),),
        worker_races.test_two_rescuers_of_a_worker_that_took_its_leave,
        "rescued twice",
    ),
    Knockout(
        "a rescuer puts back a job that is ending",
        "rescue_jobs",
        (("FOR UPDATE OF j SKIP LOCKED", ""),),
        worker_races.test_a_rescue_meets_a_late_end,
        "an ended job was put back|jobs_terminal_has_end",
    ),
    Knockout(
        "a lost worker may renew its heartbeat",
        "heartbeat",
        ((" AND lost_at IS NULL", ""),),
        worker_races.test_a_heartbeat_meets_a_rescue,
        "a lost worker believes",
    ),
]
