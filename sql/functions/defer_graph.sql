-- Makes workflows and defers jobs into them as one statement, all or nothing; returns the ids in the order given.
-- workflows: a JSON array of objects with name and, as wanted: metadata (an object), unique, and parent (the position, from
-- 0, of an earlier one) or parent_id (of an existing one). batch: as for defer_jobs; besides, workflow is the position of
-- a job's workflow, and after_workflows are positions of workflows on all jobs of which it depends, all of them earlier in
-- the batch.
CREATE FUNCTION procrastinate_deps.defer_graph(
    workflows jsonb, batch jsonb, OUT workflow_ids bigint[], OUT job_ids bigint[]
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET work_mem = '64MB'
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
BEGIN
    workflow_ids := procrastinate_deps.insert_workflows(workflows);
    job_ids := procrastinate_deps.insert_jobs(batch, workflow_ids);
    -- nobody else knows them yet
    PERFORM procrastinate_deps.fold_held(workflow_ids);
    UPDATE procrastinate_deps.workflows AS w
    SET finished_at = now(), holds_name = false
    WHERE w.id = ANY (workflow_ids) AND w.total = 0;
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
