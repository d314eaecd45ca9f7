-- For each of these locks with which nobody runs (any more): the best of the line gets it, or its row goes. That may be
-- the job that was granted it already, or that was just put back to todo; so calling this for too many locks is harmless.
-- Waits for the head of a line when another transaction holds its row (it may be leaving too): to pass it by would break
-- the order, and would leave a lone parked job behind a lock that nobody has.
CREATE FUNCTION procrastinate_deps.hand_over_locks(lines text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    freed text[];
    heads bigint[];
    granted text[];
BEGIN
    IF lines IS NULL OR NOT EXISTS (SELECT FROM procrastinate_deps.locks WHERE lock = ANY (lines)) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(procrastinate_deps.pause_key());
    PERFORM 1 FROM procrastinate_deps.locks WHERE lock = ANY (lines) ORDER BY lock FOR UPDATE;
    -- a new statement: nobody else changes these lines now
    freed := ARRAY(
        SELECT l.lock
        FROM procrastinate_deps.locks AS l
        LEFT JOIN procrastinate_deps.jobs AS j ON j.id = l.job_id
        WHERE l.lock = ANY (lines) AND NOT coalesce(j.lock = l.lock AND j.status = 'doing', false)
        ORDER BY l.lock);
    IF cardinality(freed) = 0 THEN
        RETURN;
    END IF;

    SELECT array_agg(f.lock), array_agg(head.id)
    INTO granted, heads
    FROM unnest(freed) AS f (lock)
    CROSS JOIN LATERAL (
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.status = 'todo' AND j.lock = f.lock AND j.gate IS DISTINCT FROM 'scheduled'
            AND NOT EXISTS (SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = j.queue)
        ORDER BY j.priority DESC, j.id
        LIMIT 1
        FOR NO KEY UPDATE OF j
    ) AS head;

    DELETE FROM procrastinate_deps.locks
    WHERE lock = ANY (freed) AND lock <> ALL (coalesce(granted, '{}'));
    IF heads IS NULL THEN
        RETURN;
    END IF;
    UPDATE procrastinate_deps.locks AS l
    SET job_id = g.job_id
    FROM unnest(granted, heads) AS g (lock, job_id)
    WHERE l.lock = g.lock;
    UPDATE procrastinate_deps.jobs SET gate = NULL WHERE id = ANY (heads) AND gate = 'lock';
    PERFORM procrastinate_deps.notify_queues(
        ARRAY(SELECT queue FROM procrastinate_deps.jobs WHERE id = ANY (heads)));
END
$$;
