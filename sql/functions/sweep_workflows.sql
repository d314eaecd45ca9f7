-- Looks at unfinished workflows after this id, so many that they have about max_jobs jobs, at least one, and mends those
-- whose counts are not those of their jobs. reached: go on there; NULL: that were all.
CREATE FUNCTION procrastinate_deps.sweep_workflows(
    after bigint, max_jobs integer DEFAULT 20000, OUT reached bigint, OUT repaired jsonb
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
    wrong bigint[];
BEGIN
    SELECT array_agg(b.id), max(b.id)
    INTO batch, reached
    FROM (
        SELECT x.id, sum(x.total) OVER (ORDER BY x.id) - x.total AS jobs_before
        FROM (
            SELECT w.id, w.total
            FROM procrastinate_deps.workflows AS w
            WHERE w.id > after AND w.finished_at IS NULL
            ORDER BY w.id
            LIMIT 200
        ) AS x
    ) AS b
    WHERE b.jobs_before < max_jobs;
    repaired := '{}';
    IF batch IS NULL THEN
        RETURN;
    END IF;
    wrong := ARRAY(SELECT w.workflow_id FROM procrastinate_deps.wrong_workflow_counts(batch) AS w);
    IF cardinality(wrong) > 0 THEN
        repaired := jsonb_build_object('the counts of a workflow are those of its jobs',
            procrastinate_deps.repair('the counts of a workflow are those of its jobs', wrong, 500));
    END IF;
END
$$;
