-- Cancels what waits in a workflow and what is nested in it; with abort, what runs is asked to stop. No job is added to
-- them until they are retried. Round by round: what was being claimed, or put back for another attempt, while we waited
-- for it is seen by the next one, and what we hold changes no more.
CREATE FUNCTION procrastinate_deps.cancel_workflow(
    workflow_id bigint, abort boolean DEFAULT true, OUT cancelled bigint, OUT abort_requested bigint
)
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
    waiting bigint[];
    running bigint[];
BEGIN
    cancelled := 0;
    abort_requested := 0;
    PERFORM procrastinate_deps.lock_workflow_tree(cancel_workflow.workflow_id);
    tree := procrastinate_deps.workflow_tree(ARRAY[cancel_workflow.workflow_id]);
    LOOP
        waiting := ARRAY(
            SELECT j.id FROM procrastinate_deps.jobs AS j
            WHERE j.workflow_id = ANY (tree) AND (j.status IN ('blocked', 'todo')) IS TRUE
            ORDER BY j.id
            FOR UPDATE);
        INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
        SELECT j.id, j.worker_id, j.attempts, 'cancelled', jsonb_strip_nulls(jsonb_build_object(
            'from', j.status, 'to', 'cancelled', 'error', j.error))
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (waiting);
        UPDATE procrastinate_deps.jobs AS j
        SET status = 'cancelled', cancel_kind = 'manual', finished_at = now(), gate = NULL,
            cancel_reason = format('workflow %s was cancelled', cancel_workflow.workflow_id)
        WHERE j.id = ANY (waiting);
        DELETE FROM procrastinate_deps.job_blocks AS b WHERE b.job_id = ANY (waiting);
        PERFORM procrastinate_deps.end_jobs(waiting);
        cancelled := cancelled + cardinality(waiting);
        IF abort THEN
            running := ARRAY(
                SELECT j.id FROM procrastinate_deps.jobs AS j
                WHERE j.workflow_id = ANY (tree) AND (j.status = 'doing') IS TRUE AND NOT j.abort_requested
                ORDER BY j.id
                FOR NO KEY UPDATE);
            INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type)
            SELECT j.id, j.worker_id, j.attempts + 1, 'abort_requested'
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = ANY (running);
            UPDATE procrastinate_deps.jobs AS j SET abort_requested = true WHERE j.id = ANY (running);
            PERFORM pg_notify('procrastinate_deps',
                json_build_object('type', 'abort', 'job_id', j.id, 'worker_id', j.worker_id)::text)
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = ANY (running);
            abort_requested := abort_requested + cardinality(running);
        END IF;
        -- a new statement: all that was in somebody's hands when we looked
        EXIT WHEN NOT EXISTS (
            SELECT FROM procrastinate_deps.jobs AS j
            WHERE j.workflow_id = ANY (tree)
                AND (j.status IN ('blocked', 'todo') OR (abort AND j.status = 'doing' AND NOT j.abort_requested)) IS TRUE);
    END LOOP;
    UPDATE procrastinate_deps.workflows AS w
    SET cancel_requested_at = coalesce(w.cancel_requested_at, now())
    WHERE w.id = ANY (tree);
    PERFORM procrastinate_deps.fold_held(tree);
    PERFORM procrastinate_deps.fold_workflows(w.path)
    FROM procrastinate_deps.workflows AS w
    WHERE w.id = cancel_workflow.workflow_id;
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
