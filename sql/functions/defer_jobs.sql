-- Defers any number of jobs and edges as one statement, all or nothing; returns the ids in the order of the batch.
-- batch: a JSON array of objects with task_name and, as wanted: queue, priority, lock, queueing_lock, args (an object),
-- scheduled_at or schedule_in (seconds from now: a client's clock may be wrong), run_when, depends_on (ids of existing
-- jobs), after (positions, from 0, of earlier jobs of the batch), before (ids of existing jobs that have not started and
-- shall depend on this one too), workflow_id (of an existing workflow), node (its name in it), and depends_on_workflows
-- (ids of existing workflows, on all jobs of which it depends, also on those added while it waits).
CREATE FUNCTION procrastinate_deps.defer_jobs(batch jsonb) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
    ids bigint[];
BEGIN
    ids := procrastinate_deps.insert_jobs(batch, '{}');
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN ids;
END
$$;
