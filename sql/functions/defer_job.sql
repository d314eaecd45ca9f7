-- Defers one job without parents, as most deferrals are: what defer_jobs does for it, at a third of the cost.
CREATE FUNCTION procrastinate_deps.defer_job(
    task_name text, queue text, priority integer, lock text, queueing_lock text, args jsonb, scheduled_at timestamptz,
    run_when text
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    settling text := procrastinate_deps.start_settling();
    new_id bigint;
BEGIN
    INSERT INTO procrastinate_deps.jobs (task_name, queue, priority, lock, queueing_lock, args, scheduled_at, run_when, gate)
    VALUES (
        defer_job.task_name, defer_job.queue, defer_job.priority, defer_job.lock, defer_job.queueing_lock, defer_job.args,
        defer_job.scheduled_at, coalesce(defer_job.run_when, 'all_finished')::procrastinate_deps.run_when,
        procrastinate_deps.gate_for(defer_job.scheduled_at))
    RETURNING id INTO new_id;
    PERFORM procrastinate_deps.notify_queues(ARRAY[defer_job.queue]);
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN new_id;
END
$$;
