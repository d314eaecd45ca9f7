-- Claims the best job that can start now: no row when there is none. See fetch_jobs.
CREATE FUNCTION procrastinate_deps.fetch_job(queues text[], worker_id bigint)
RETURNS SETOF procrastinate_deps.jobs
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM procrastinate_deps.fetch_jobs(queues, worker_id, 1) $$;
