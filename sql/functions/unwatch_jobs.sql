-- Takes back what watch_jobs has asked for, by its rows.
CREATE FUNCTION procrastinate_deps.unwatch_jobs(wait_ids bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM procrastinate_deps.job_waits WHERE id = ANY (wait_ids)
$$;
