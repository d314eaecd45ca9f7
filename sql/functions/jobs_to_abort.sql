CREATE FUNCTION procrastinate_deps.jobs_to_abort(worker_id bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT j.id FROM procrastinate_deps.jobs AS j
    WHERE j.status = 'doing' AND j.worker_id = jobs_to_abort.worker_id AND j.abort_requested
$$;
