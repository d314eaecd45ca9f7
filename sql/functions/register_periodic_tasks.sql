-- Makes periodic tasks known. tasks: a JSON array of objects with task_name, periodic_id, cron, timezone and job.
-- Returns the last period of each that was deferred, and the time.
CREATE FUNCTION procrastinate_deps.register_periodic_tasks(tasks jsonb)
RETURNS TABLE (task_name text, periodic_id text, last_timestamp bigint, clock double precision)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO procrastinate_deps.periodic_tasks AS p (task_name, periodic_id, cron, timezone, job)
    SELECT t.task_name, t.periodic_id, t.cron, t.timezone, t.job
    FROM jsonb_to_recordset(tasks) AS t (task_name text, periodic_id text, cron text, timezone text, job jsonb)
    -- workers that start together take the rows in the same order
    ORDER BY t.task_name, t.periodic_id
    ON CONFLICT ON CONSTRAINT periodic_tasks_pkey DO UPDATE
    SET cron = excluded.cron, timezone = excluded.timezone, job = excluded.job, registered_at = now()
    RETURNING p.task_name, p.periodic_id, p.last_timestamp, extract(epoch FROM clock_timestamp())::float8
$$;
