"""The protections of workflows, taken out one at a time: see knockouts."""

from __future__ import annotations

from functools import partial

from tests.races import test_old_plans as old_plans
from tests.races import test_workflow_neighbours as neighbours
from tests.races import test_workflow_races as races
from tests.races.knockouts import STUCK, Knockout

WORKFLOW_KNOCKOUTS = [
    Knockout(
        "a growth does not lock the tree of workflows",
        "enter_workflows",
        (("PERFORM pg_advisory_xact_lock_shared(procrastinate_deps.workflow_key(tree.root));", "NULL;"),),
        races.test_a_cancel_waits_for_an_open_growth_and_takes_it_along,
        "a job of a cancelled workflow was missed",
    ),
    Knockout(
        "a cancel does not lock the tree of workflows",
        "lock_workflow_tree",
        (("PERFORM pg_advisory_xact_lock(procrastinate_deps.workflow_key(root));", "NULL;"),),
        races.test_a_growth_waits_for_an_open_cancel_and_is_refused,
        "a cancelled workflow took a job",
    ),
    Knockout(
        "who depends on a whole workflow only shares its tree",
        "enter_workflows",
        (
            (
                "PERFORM pg_advisory_xact_lock(procrastinate_deps.workflow_key(tree.root));",
                "PERFORM pg_advisory_xact_lock_shared(procrastinate_deps.workflow_key(tree.root));",
            ),
        ),
        races.test_a_growth_waits_for_an_open_deferral_that_depends_on_the_whole,
        "a blocked job that depends on a whole workflow waits for each live job of it",
    ),
    Knockout(
        "a cancel does not lock what waits",
        "cancel_workflow",
        (("            ORDER BY j.id\n            FOR UPDATE);", "            ORDER BY j.id);"),),
        races.test_a_cancel_waits_for_an_open_fetch_and_asks_to_abort,
        "a running job was cancelled|assert \\(2, 0\\)",
    ),
    Knockout(
        "a cancel looks only once",
        "cancel_workflow",
        (("EXIT WHEN NOT EXISTS (", "EXIT WHEN true OR NOT EXISTS ("),),
        partial(races.test_a_job_is_put_back_for_another_attempt_while_its_workflow_is_cancelled, abort=True),
        "a job of a cancelled workflow runs again",
    ),
    *(
        Knockout(
            f"{who} does not hold its workflow",
            "enter_workflows",
            (("ORDER BY w.id FOR KEY SHARE);", "ORDER BY w.id);"),),
            race,
            "23503",
        )
        for who, race in (
            ("a growth", partial(races.test_a_growth_waits_for_an_open_delete_and_is_refused, way="plain")),
            (
                "an insert by hand",
                partial(races.test_an_insert_by_hand_waits_for_an_open_delete_and_is_refused, way="plain"),
            ),
            (
                "who depends on a whole workflow",
                partial(races.test_who_depends_on_the_whole_waits_for_an_open_delete_and_is_refused, way="plain"),
            ),
            (
                "a nested workflow",
                partial(neighbours.test_nesting_waits_for_an_open_delete_and_is_refused, way="plain", jobs=0),
            ),
        )
    ),
    Knockout(
        "a growth does not keep its workflow's name",
        "hold_workflows",
        (("AND w.holds_name FOR SHARE;", "AND w.holds_name;"),),
        races.test_a_growing_unique_workflow_keeps_its_name,
        "a live unique workflow has its name",
    ),
    Knockout(
        "a unique workflow takes no name",
        "take_workflow_name",
        (("UPDATE procrastinate_deps.workflows AS w SET holds_name = true WHERE w.id = workflow;", "NULL;"),),
        partial(races.test_two_unique_workflows_of_one_name_at_once, commit=True),
        "two live workflows have one name",
    ),
    Knockout(
        "a name is not asked back from a workflow that has ended",
        "take_workflow_name",
        (("PERFORM procrastinate_deps.fold_held(ARRAY[holder]);", "NULL;"),),
        races.test_a_unique_workflow_that_is_just_ending_lets_its_name_go,
        "PD010",
    ),
    Knockout(
        "a name is asked back without waiting for a fold",
        "take_workflow_name",
        (("    FOR NO KEY UPDATE;", "    FOR NO KEY UPDATE SKIP LOCKED;"), ("CONTINUE WHEN look = 1;", "")),
        races.test_a_unique_workflow_that_is_just_ending_lets_its_name_go,
        "PD010",
    ),
    Knockout(
        "a name is asked back with an old snapshot",
        "take_workflow_name",
        (("IF current_setting('transaction_isolation') = 'read committed' THEN", "IF true THEN"),),
        partial(
            neighbours.test_an_old_snapshot_takes_no_name_from_a_workflow_that_has_grown, isolation="REPEATABLE READ"
        ),
        "two live workflows have one name",
    ),
    Knockout(
        "a pruned workflow's jobs are not held before it is marked",
        "prune_workflows",
        (
            ("            FOR UPDATE SKIP LOCKED;\n            GET", "            ;\n            GET"),
            ("count(*) > held", "false"),
        ),
        races.test_a_prune_passes_by_a_workflow_of_which_a_job_is_held,
        "pruned in part",
    ),
    Knockout(
        "a name is looked at only once",
        "take_workflow_name",
        (("CONTINUE WHEN look = 1;", ""),),
        races.test_a_unique_workflow_that_ended_in_the_transaction_waited_for_lets_its_name_go,
        "is live already",
    ),
    Knockout(
        "a fold begins with the first workflow",
        "fold_workflows",
        (("random()", "0"),),
        neighbours.test_workflows_that_someone_holds_do_not_keep_folds_from_the_others,
        "was never folded",
    ),
    Knockout(
        "a fold waits for another",
        "fold_workflows",
        (("FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),),
        races.test_two_folds_at_once,
        "it waits for an open transaction",
    ),
    Knockout(
        "a fold locks nothing",
        "fold_workflows",
        (("        ORDER BY w.id\n        FOR NO KEY UPDATE SKIP LOCKED);", ");"),),
        races.test_two_folds_at_once,
        "it waits for an open transaction",
    ),
    Knockout(
        "a fold passes by a workflow to which a job is just added",
        "fold_workflows",
        (("FOR NO KEY UPDATE SKIP LOCKED", "FOR UPDATE SKIP LOCKED"),),
        races.test_a_workflow_that_has_ended_may_grow_and_end_again,
        "succeeded",
    ),
    Knockout(
        "who is passed by is not asked to come again",
        "fold_workflows",
        (("w.id = ANY (found) AND w.id <> ALL (held)", "false"),),
        races.test_two_folds_at_once,
        "who was passed by is asked to come again",
    ),
    Knockout(
        "an end holds its workflow",
        "observe_job_updates",
        (
            (
                "SELECT x.path FROM procrastinate_deps.workflows AS x WHERE x.id = c.workflow_id OFFSET 0",
                "SELECT x.path FROM procrastinate_deps.workflows AS x WHERE x.id = c.workflow_id OFFSET 0 FOR SHARE",
            ),
        ),
        races.test_no_end_waits_for_an_open_fold,
        "it waits for an open transaction",
    ),
    Knockout(
        "changes of counts outlive their workflow",
        "clean_up_deleted_workflow",
        (("DELETE FROM procrastinate_deps.workflow_deltas AS d WHERE d.workflow_id = OLD.id;", ""),),
        partial(races.test_a_delete_waits_for_an_open_end_and_leaves_no_change_behind, way="plain"),
        "changes of counts belong to a workflow",
    ),
    Knockout(
        "a new parent does not lock its child",
        "hold_waiting",
        (("PERFORM 1 FROM procrastinate_deps.jobs WHERE id = r.id FOR NO KEY UPDATE;", "NULL;"),),
        races.test_a_new_parent_waits_for_an_open_claim_of_its_child,
        "a running job was blocked",
    ),
    Knockout(
        "new jobs between existing ones take no advisory lock",
        "hold_waiting",
        (("PERFORM pg_advisory_xact_lock(procrastinate_deps.graph_key());", "NULL;"),),
        races.test_a_growth_and_an_edge_that_close_a_cycle_together,
        STUCK,
    ),
]

# On a quiet server: see its fixture.
OLD_PLAN_KNOCKOUTS = [
    Knockout(
        f"{function} leaves it to an old plan in which order it joins, when a job {way.__name__}",
        function,
        ((look_up, join),),
        partial(old_plans.test_an_old_plan_reads_no_whole_table, way=way),
        "all that is blocked was read",
    )
    for function, look_up, join, way in (
        ("finish_jobs", "j.id = ANY (ARRAY[u.id])", "j.id = u.id", old_plans.succeeds),
        ("revive", "WHERE x.id = d.child_id OFFSET 0", "WHERE x.id = d.child_id", old_plans.is_retried),
        ("unfinished_ancestors", "p.id = ANY (ARRAY[d.parent_id])", "p.id = d.parent_id", old_plans.is_explained),
    )
]
