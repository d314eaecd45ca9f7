-- False: the worker was declared lost (or never registered), and what it runs is no longer its own.
CREATE FUNCTION procrastinate_deps.heartbeat(worker_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE procrastinate_deps.workers SET heartbeat_at = now() WHERE id = worker_id AND lost_at IS NULL;
    RETURN FOUND;
END
$$;
