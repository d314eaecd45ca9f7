CREATE FUNCTION procrastinate_deps.register_worker(
    name text, hostname text, pid integer, queues text[], concurrency integer, version text
) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO procrastinate_deps.workers (name, hostname, pid, queues, concurrency, version)
    VALUES (name, hostname, pid, queues, concurrency, version)
    RETURNING id
$$;
