-- A worker takes its leave. What it may still have running is rescued by the others at once, not after a time-out.
CREATE FUNCTION procrastinate_deps.unregister_worker(worker_id bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DELETE FROM procrastinate_deps.workers WHERE id = worker_id $$;
