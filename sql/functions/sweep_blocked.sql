-- Looks at blocked jobs after this id, a bounded number of them and of their parents, and mends what is wrong with their
-- counters. reached: go on there; NULL: that were all. Nothing is held, and nobody is waited for, where nothing is wrong.
CREATE FUNCTION procrastinate_deps.sweep_blocked(
    after bigint, max_jobs integer DEFAULT 500, OUT reached bigint, OUT repaired jsonb
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
    batch bigint[];
    stray bigint[];
    wrong bigint[];
BEGIN
    SELECT array_agg(b.job_id), max(b.job_id)
    INTO batch, reached
    FROM (
        SELECT x.job_id, sum(x.parents) OVER (ORDER BY x.job_id) - x.parents AS parents_before
        FROM (
            SELECT y.job_id, y.live + y.succeeded + y.failed + y.cancelled + y.not_needed AS parents
            FROM procrastinate_deps.job_blocks AS y
            WHERE y.job_id > after
            ORDER BY y.job_id
            LIMIT max_jobs
        ) AS x
    ) AS b
    -- at least one, whatever the number of its parents
    WHERE b.parents_before < 20 * max_jobs;
    repaired := '{}';
    IF batch IS NULL THEN
        RETURN;
    END IF;
    wrong := procrastinate_deps.wrong_counters(batch);
    IF cardinality(wrong) > 0 THEN
        repaired := jsonb_build_object('the counters of a blocked job are right',
            procrastinate_deps.repair('the counters of a blocked job are right', wrong, 500));
    END IF;
    stray := ARRAY(
        SELECT b.job_id
        FROM procrastinate_deps.job_blocks AS b
        LEFT JOIN procrastinate_deps.jobs AS j ON j.id = b.job_id
        WHERE b.job_id = ANY (batch) AND (j.status = 'blocked') IS NOT TRUE);
    IF cardinality(stray) > 0 THEN
        repaired := repaired || jsonb_build_object('only a blocked job has counters',
            procrastinate_deps.repair('only a blocked job has counters', stray, 500));
    END IF;
END
$$;
