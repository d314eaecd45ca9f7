-- Seconds until fetch_jobs could return something for these queues (NULL: all): 0 when there is a job right now that the
-- last fetch had to leave because someone held it for a moment, NULL when nothing is in sight. For workers, before they
-- sleep; counts the schedules of all queues, since any worker promotes them.
CREATE FUNCTION procrastinate_deps.next_due(queues text[]) RETURNS double precision
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    soonest timestamptz;
BEGIN
    IF EXISTS (
        SELECT
        FROM unnest(procrastinate_deps.open_queues(queues)) AS q (queue)
        CROSS JOIN LATERAL (
            SELECT j.id FROM procrastinate_deps.jobs AS j
            WHERE j.status = 'todo' AND j.gate IS NULL AND j.queue = q.queue
            ORDER BY ~j.priority, j.id
            LIMIT 1) AS ready
    ) THEN
        RETURN 0;
    END IF;
    SELECT j.scheduled_at INTO soonest
    FROM procrastinate_deps.jobs AS j
    WHERE j.status = 'todo' AND j.gate = 'scheduled'
    ORDER BY j.scheduled_at
    LIMIT 1;
    -- greatest() passes NULLs by: of no schedule it would make 0
    RETURN CASE WHEN soonest IS NOT NULL THEN greatest(extract(epoch FROM soonest - clock_timestamp()), 0) END;
END
$$;
