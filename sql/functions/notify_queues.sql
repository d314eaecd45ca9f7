-- Wakes the workers of these queues at commit: one notification per queue and statement. While unannounced is set a fetch
-- follows in the same transaction, and most often takes what it would announce: announce_left does the rest.
-- scheduled: what became runnable has a time to wait for. No fetch takes that, and every worker sets its own alarm.
CREATE FUNCTION procrastinate_deps.notify_queues(queues text[], scheduled boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    unannounced text := current_setting('procrastinate_deps_internal.unannounced', true);
BEGIN
    IF unannounced <> '' AND NOT scheduled THEN
        PERFORM set_config(
            'procrastinate_deps_internal.unannounced', (unannounced::text[] || queues)::text, true);
        RETURN;
    END IF;
    PERFORM pg_notify('procrastinate_deps', json_build_object('type', 'job_ready', 'queue', q.queue)::text)
    FROM (SELECT DISTINCT unnest(queues) AS queue) AS q;
END
$$;
