-- Looks at the lines of the locks after this one, a bounded number of them, and mends those whose holder may not have the
-- lock, or that nobody has though the best job is parked for it; at the beginning ('') also at all jobs that run. reached:
-- go on there; NULL: that were all. (No bitmap scans: with statistics from before a bulk load each probe sorted the whole
-- table, 22 s a batch.)
CREATE FUNCTION procrastinate_deps.sweep_locks(
    after text, max_locks integer DEFAULT 500, OUT reached text, OUT repaired jsonb
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    suspects bigint[];
    heads bigint[];
    found integer;
BEGIN
    WITH RECURSIVE line (lock, nth) AS (
        -- a loose index scan: one probe for each lock with a line
        (SELECT j.lock, 1 FROM procrastinate_deps.jobs AS j
         WHERE j.status = 'todo' AND j.lock IS NOT NULL AND j.gate IS DISTINCT FROM 'scheduled' AND j.lock > after
         ORDER BY j.lock LIMIT 1)
        UNION ALL
        SELECT (
            SELECT j.lock FROM procrastinate_deps.jobs AS j
            WHERE j.status = 'todo' AND j.lock IS NOT NULL AND j.gate IS DISTINCT FROM 'scheduled' AND j.lock > line.lock
            ORDER BY j.lock LIMIT 1), line.nth + 1
        FROM line
        WHERE line.lock IS NOT NULL AND line.nth < max_locks
    ),
    held AS (
        SELECT l.lock FROM procrastinate_deps.locks AS l WHERE l.lock > after ORDER BY l.lock LIMIT max_locks
    ),
    batch AS MATERIALIZED (
        SELECT x.lock
        FROM (SELECT lock FROM line WHERE lock IS NOT NULL UNION SELECT lock FROM held) AS x
        ORDER BY x.lock
        LIMIT max_locks
    )
    SELECT count(*), max(b.lock), array_agg(l.job_id) FILTER (WHERE l.job_id IS NOT NULL),
        array_agg(head.id) FILTER (WHERE head.id IS NOT NULL)
    INTO found, reached, suspects, heads
    FROM batch AS b
    LEFT JOIN procrastinate_deps.locks AS l ON l.lock = b.lock
    LEFT JOIN LATERAL (
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.status = 'todo' AND j.lock = b.lock AND j.gate IS DISTINCT FROM 'scheduled'
            AND NOT EXISTS (SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = j.queue)
        ORDER BY j.priority DESC, j.id
        LIMIT 1
    ) AS head ON true;
    repaired := '{}';
    IF found < max_locks THEN
        reached := NULL;
    END IF;
    suspects := coalesce(suspects, '{}') || coalesce(heads, '{}');
    IF after = '' THEN
        suspects := suspects || ARRAY(
            SELECT j.id FROM procrastinate_deps.jobs AS j WHERE j.status = 'doing' AND j.lock IS NOT NULL);
    END IF;
    suspects := ARRAY(SELECT DISTINCT b.job_id FROM procrastinate_deps.broken_lines(suspects) AS b ORDER BY 1);
    IF cardinality(suspects) > 0 THEN
        repaired := jsonb_build_object('who holds a lock runs or may start',
            procrastinate_deps.repair('who holds a lock runs or may start', suspects, 500));
    END IF;
END
$$;
