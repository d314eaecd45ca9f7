-- Defers a job of a periodic task now, besides its schedule; its timestamp is the time. NULL: there is no such task.
CREATE FUNCTION procrastinate_deps.run_periodic_task(task_name text, periodic_id text DEFAULT '') RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (procrastinate_deps.defer_jobs(jsonb_build_array(
        jsonb_set(p.job, '{args,timestamp}', to_jsonb(floor(extract(epoch FROM clock_timestamp()))::bigint)))))[1]
    FROM procrastinate_deps.periodic_tasks AS p
    WHERE p.task_name = run_periodic_task.task_name AND p.periodic_id = run_periodic_task.periodic_id
$$;
