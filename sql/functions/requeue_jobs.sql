-- Puts running jobs, held FOR UPDATE, back to todo. reschedule: a JSON object by job id with retry_at or retry_in
-- (seconds from now: a worker's clock may be wrong), priority, queue and lock, each optional. A job whose queueing_lock
-- was taken meanwhile can't go back: it fails with that reason, and is returned.
CREATE FUNCTION procrastinate_deps.requeue_jobs(
    ids bigint[], reschedule jsonb, rescued boolean, uncounted bigint[] DEFAULT '{}'
) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    alone bigint;
    conflicting bigint[] := '{}';
    together bigint[] := ARRAY(
        SELECT id FROM procrastinate_deps.jobs WHERE id = ANY (ids) AND queueing_lock IS NULL);
    old_locks text[] := ARRAY(
        SELECT j.lock FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (ids) AND j.lock IS NOT NULL ORDER BY j.lock);
BEGIN
    PERFORM procrastinate_deps.set_todo(together, reschedule, rescued, uncounted);
    FOREACH alone IN ARRAY ARRAY(
        SELECT id FROM procrastinate_deps.jobs WHERE id = ANY (ids) AND queueing_lock IS NOT NULL ORDER BY id)
    LOOP
        BEGIN
            PERFORM procrastinate_deps.set_todo(ARRAY[alone], reschedule, rescued, uncounted);
        EXCEPTION WHEN unique_violation THEN
            UPDATE procrastinate_deps.jobs
            SET status = 'failed', finished_at = now(), attempts = attempts + 1,
                error = concat_ws(E'\n\n', format(
                    'AlreadyEnqueued: the job could not go back to its queue, because another job with the queueing lock '
                    '%L is waiting', queueing_lock), nullif(error, ''))
            WHERE id = alone;
            conflicting := conflicting || alone;
        END;
    END LOOP;
    PERFORM procrastinate_deps.hand_over_locks(old_locks);
    PERFORM procrastinate_deps.notify_queues(ARRAY(
        SELECT queue FROM procrastinate_deps.jobs
        WHERE id = ANY (ids) AND status = 'todo' AND gate IS DISTINCT FROM 'scheduled'));
    PERFORM procrastinate_deps.notify_queues(ARRAY(
        SELECT queue FROM procrastinate_deps.jobs WHERE id = ANY (ids) AND status = 'todo' AND gate = 'scheduled'), true);
    RETURN conflicting;
END
$$;
