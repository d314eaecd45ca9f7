-- Announces what became runnable in this transaction before its fetch, but for the queues of which the fetch took all
-- (NULL: every queue): a worker needs no notification of what it has.
CREATE FUNCTION procrastinate_deps.announce_left(all_taken boolean, queues text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    unannounced text[] := nullif(current_setting('procrastinate_deps_internal.unannounced', true), '');
BEGIN
    PERFORM set_config('procrastinate_deps_internal.unannounced', '', true);
    IF cardinality(unannounced) > 0 AND NOT (all_taken AND queues IS NULL) THEN
        PERFORM procrastinate_deps.notify_queues(ARRAY(
            SELECT q.queue FROM unnest(unannounced) AS q (queue) WHERE NOT all_taken OR q.queue <> ALL (queues)));
    END IF;
END
$$;
