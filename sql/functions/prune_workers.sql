-- Removes the rows of workers that were lost this long ago and have no job left; returns their names.
CREATE FUNCTION procrastinate_deps.prune_workers(stalled_after interval) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM procrastinate_deps.workers AS w
    WHERE w.lost_at < now() - stalled_after AND NOT EXISTS (
        SELECT FROM procrastinate_deps.jobs AS j WHERE j.status = 'doing' AND j.worker_id = w.id)
    RETURNING w.name
$$;
