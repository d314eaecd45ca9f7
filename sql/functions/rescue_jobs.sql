-- Declares workers lost whose heartbeat is older than stalled_after, and takes their jobs back: to todo whatever their
-- retry rule, at most max_rescues times, then failed; aborted when an abort was asked for. By the database's clock alone.
CREATE FUNCTION procrastinate_deps.rescue_jobs(
    stalled_after interval DEFAULT '30 s', max_rescues integer DEFAULT 3, max_jobs integer DEFAULT 1000
) RETURNS TABLE (job_id bigint, status text)
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
    lost bigint[];
    ended bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    -- first, so that a worker that renews its heartbeat right now is either not lost or hears of it
    UPDATE procrastinate_deps.workers SET lost_at = now()
    WHERE lost_at IS NULL AND heartbeat_at < now() - stalled_after;
    lost := ARRAY(
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.status = 'doing' AND NOT EXISTS (
            SELECT FROM procrastinate_deps.workers AS w WHERE w.id = j.worker_id AND w.lost_at IS NULL)
        ORDER BY j.id
        LIMIT max_jobs
        FOR UPDATE OF j SKIP LOCKED);
    IF cardinality(lost) = 0 THEN
        PERFORM procrastinate_deps.stop_settling(settling);
        RETURN;
    END IF;
    INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
    SELECT j.id, j.worker_id, j.attempts + 1, 'rescued',
        jsonb_build_object('rescues', j.rescues, 'started_at', j.started_at)
    FROM procrastinate_deps.jobs AS j
    WHERE j.id = ANY (lost);
    WITH done AS (
        UPDATE procrastinate_deps.jobs AS j
        SET status = CASE WHEN j.abort_requested THEN 'aborted' ELSE 'failed' END::procrastinate_deps.job_status,
            finished_at = now(),
            attempts = j.attempts + 1,
            error = CASE WHEN j.abort_requested THEN 'JobAborted: aborted while its worker was lost'
                ELSE format('WorkerLost: its worker was lost %s times while it ran', j.rescues + 1) END
        WHERE j.id = ANY (lost) AND (j.abort_requested OR j.rescues >= max_rescues)
        RETURNING j.id
    )
    SELECT coalesce(array_agg(d.id), '{}') INTO ended FROM done AS d;
    ended := ended || procrastinate_deps.requeue_jobs(
        ARRAY(SELECT unnest(lost) EXCEPT SELECT unnest(ended)), NULL, true);
    IF cardinality(ended) > 0 THEN
        PERFORM procrastinate_deps.end_jobs(ended);
    END IF;
    RETURN QUERY SELECT j.id, j.status::text FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (lost) ORDER BY j.id;
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
