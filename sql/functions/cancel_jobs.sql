-- Cancels those of these jobs that have not started; with abort, the running ones are asked to stop. One row for each id:
-- outcome is cancelled, abort_requested, or refused for a reason. All of them end before any of their children is decided.
CREATE FUNCTION procrastinate_deps.cancel_jobs(job_ids bigint[], abort boolean DEFAULT false)
RETURNS TABLE (job_id bigint, outcome text, reason text)
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
    waiting bigint[];
    running bigint[] := '{}';
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    job_ids := array_remove(job_ids, NULL);
    waiting := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j
        -- IS TRUE: by its primary key
        WHERE j.id = ANY (job_ids) AND (j.status IN ('blocked', 'todo') OR (abort AND j.status = 'doing')) IS TRUE
        ORDER BY j.id
        FOR UPDATE);
    -- a new statement: what was being claimed or ended while we waited for it is seen now, and changes no more
    IF abort THEN
        running := ARRAY(SELECT j.id FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (waiting) AND j.status = 'doing');
    END IF;
    waiting := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (waiting) AND (j.status IN ('blocked', 'todo')) IS TRUE);

    INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
    SELECT j.id, j.worker_id, j.attempts, 'cancelled', jsonb_strip_nulls(jsonb_build_object(
        'from', j.status, 'to', 'cancelled', 'error', j.error))
    FROM procrastinate_deps.jobs AS j
    WHERE j.id = ANY (waiting);
    UPDATE procrastinate_deps.jobs AS j
    SET status = 'cancelled', cancel_kind = 'manual', cancel_reason = 'by hand', finished_at = now(), gate = NULL
    WHERE j.id = ANY (waiting);
    DELETE FROM procrastinate_deps.job_blocks AS b WHERE b.job_id = ANY (waiting);
    PERFORM procrastinate_deps.end_jobs(waiting);

    IF cardinality(running) > 0 THEN
        INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type)
        SELECT j.id, j.worker_id, j.attempts + 1, 'abort_requested'
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (running) AND NOT j.abort_requested;
        UPDATE procrastinate_deps.jobs AS j SET abort_requested = true WHERE j.id = ANY (running) AND NOT j.abort_requested;
        PERFORM pg_notify('procrastinate_deps',
            json_build_object('type', 'abort', 'job_id', j.id, 'worker_id', j.worker_id)::text)
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (running);
    END IF;
    PERFORM procrastinate_deps.stop_settling(settling);

    RETURN QUERY
    SELECT i.id, o.outcome, CASE WHEN o.outcome = 'refused' THEN
        CASE
            WHEN j.id IS NULL THEN format('there is no job %s: it was deleted, or never deferred', i.id)
            WHEN j.status = 'doing' THEN format('job %s is running; abort asks it to stop', i.id)
            ELSE format('job %s has ended: it is %s', i.id, j.status)
        END END
    FROM (SELECT DISTINCT unnest(job_ids)) AS i (id)
    LEFT JOIN procrastinate_deps.jobs AS j ON j.id = i.id
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN i.id = ANY (waiting) THEN 'cancelled'
            WHEN i.id = ANY (running) THEN 'abort_requested'
            ELSE 'refused' END
    ) AS o (outcome)
    ORDER BY i.id;
END
$$;
