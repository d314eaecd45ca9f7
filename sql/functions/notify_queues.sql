-- Wakes the workers of these queues at commit: one notification per queue and statement.
CREATE FUNCTION procrastinate_deps.notify_queues(queues text[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_notify('procrastinate_deps', json_build_object('type', 'job_ready', 'queue', q.queue)::text)
    FROM (SELECT DISTINCT unnest(queues) AS queue) AS q;
END
$$;
