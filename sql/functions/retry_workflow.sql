-- Runs jobs of a workflow, and of what is nested in it, again; returns how many. Running ones are left alone. mode:
--   failed: those that failed, were aborted or were cancelled by hand; what was cancelled by its rule because of them is
--     decided anew, as by retry_job;
--   failed_and_downstream: these, and everything after them in the workflow, however it ended;
--   all: every one that has ended.
-- A job whose own rule is not met by parents that stay as they are stays as it ended. A cancellation is taken back.
CREATE FUNCTION procrastinate_deps.retry_workflow(workflow_id bigint, mode text DEFAULT 'failed') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    settling text := procrastinate_deps.start_settling();
    tree bigint[];
    chosen bigint[];
    hopeless bigint[];
BEGIN
    IF mode NOT IN ('failed', 'failed_and_downstream', 'all') OR mode IS NULL THEN
        RAISE EXCEPTION 'mode is failed, failed_and_downstream or all, not %', mode USING ERRCODE = '22023';
    END IF;
    PERFORM procrastinate_deps.lock_workflow_tree(retry_workflow.workflow_id);
    tree := procrastinate_deps.workflow_tree(ARRAY[retry_workflow.workflow_id]);
    chosen := ARRAY(
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.workflow_id = ANY (tree) AND (j.finished_at IS NOT NULL) IS TRUE
            AND (mode = 'all' OR j.status IN ('failed', 'aborted') OR j.cancel_kind IS NOT DISTINCT FROM 'manual'));
    IF mode = 'failed_and_downstream' THEN
        chosen := ARRAY(
            WITH RECURSIVE downstream (id) AS (
                SELECT unnest(chosen)
                UNION
                SELECT c.id
                FROM downstream
                CROSS JOIN LATERAL (
                    SELECT e.child_id FROM procrastinate_deps.job_dependencies AS e
                    WHERE e.parent_id = downstream.id OFFSET 0
                ) AS d
                -- ANY: a look-up, see settle
                JOIN procrastinate_deps.jobs AS c ON c.id = ANY (ARRAY[d.child_id])
                WHERE c.workflow_id = ANY (tree)
            )
            SELECT d.id FROM downstream AS d
            JOIN procrastinate_deps.jobs AS j ON j.id = ANY (ARRAY[d.id])
            WHERE (j.finished_at IS NOT NULL) IS TRUE);
    END IF;
    IF cardinality(chosen) > 0 THEN
        PERFORM procrastinate_deps.hold_revival(chosen, chosen, true, true);
        -- a new statement: somebody else may have retried or deleted one meanwhile
        chosen := ARRAY(
            SELECT j.id FROM procrastinate_deps.jobs AS j
            -- IS TRUE: by its primary key. The index of what has ended would be read whole
            WHERE j.id = ANY (chosen) AND (j.finished_at IS NOT NULL) IS TRUE);
    END IF;
    LOOP
        hopeless := procrastinate_deps.hopeless_jobs(chosen);
        EXIT WHEN cardinality(hopeless) = 0;
        -- without them others may be hopeless too
        chosen := ARRAY(SELECT unnest(chosen) EXCEPT SELECT unnest(hopeless));
    END LOOP;

    IF cardinality(chosen) > 0 THEN
        INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
        SELECT j.id, j.worker_id, j.attempts, 'retried', jsonb_strip_nulls(jsonb_build_object(
            'from', j.status, 'error', j.error, 'result', j.result, 'cancel_reason', j.cancel_reason,
            'started_at', j.started_at, 'finished_at', j.finished_at))
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (chosen);
        UPDATE procrastinate_deps.jobs AS j
        SET status = 'todo', cancel_kind = NULL, cancel_reason = NULL, finished_at = NULL, started_at = NULL,
            result = NULL, error = NULL, abort_requested = false, rescues = 0, ignores_dependencies = false,
            scheduled_at = NULL, ready_at = now(), gate = NULL
        WHERE j.id = ANY (chosen);
        PERFORM procrastinate_deps.revive(chosen);
    END IF;
    UPDATE procrastinate_deps.workflows AS w
    SET cancel_requested_at = NULL
    FROM (
        SELECT unnest(tree) AS id
        UNION
        SELECT unnest(x.path) FROM procrastinate_deps.workflows AS x WHERE x.id = retry_workflow.workflow_id
    ) AS i
    WHERE w.id = i.id AND w.cancel_requested_at IS NOT NULL;
    PERFORM procrastinate_deps.fold_workflows(tree);
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN cardinality(chosen);
END
$$;
