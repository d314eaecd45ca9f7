-- Of these queues (NULL: all), those that have a job which can start and are not paused.
-- The loose index scan takes one probe of jobs_fetch per queue with such jobs, however many jobs they hold.
CREATE FUNCTION procrastinate_deps.open_queues(queues text[]) RETURNS text[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF queues IS NOT NULL THEN
        RETURN ARRAY(
            SELECT DISTINCT q.queue FROM unnest(queues) AS q (queue)
            WHERE NOT EXISTS (SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = q.queue));
    END IF;
    RETURN ARRAY(
        WITH RECURSIVE found (queue) AS (
            (SELECT j.queue FROM procrastinate_deps.jobs AS j
             WHERE j.status = 'todo' AND j.gate IS NULL ORDER BY j.queue LIMIT 1)
            UNION ALL
            SELECT (
                SELECT j.queue FROM procrastinate_deps.jobs AS j
                WHERE j.status = 'todo' AND j.gate IS NULL AND j.queue > found.queue ORDER BY j.queue LIMIT 1)
            FROM found
            WHERE found.queue IS NOT NULL
        )
        SELECT queue FROM found
        WHERE queue IS NOT NULL
            AND NOT EXISTS (SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = found.queue));
END
$$;
