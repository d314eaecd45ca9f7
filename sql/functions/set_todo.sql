-- The row of a running job on its way back to the queue. Its worker stays on record until the next claim. A run that was
-- given back (uncounted) used up none of the job's attempts.
CREATE FUNCTION procrastinate_deps.set_todo(
    ids bigint[], reschedule jsonb, rescued boolean, uncounted bigint[] DEFAULT '{}'
) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE procrastinate_deps.jobs AS j
    SET status = 'todo',
        ready_at = now(),
        abort_requested = false,
        attempts = j.attempts + (j.id <> ALL (uncounted))::integer,
        rescues = j.rescues + rescued::integer,
        scheduled_at = r.retry_at,
        gate = procrastinate_deps.gate_for(r.retry_at),
        priority = coalesce(r.priority, j.priority),
        queue = coalesce(r.queue, j.queue),
        lock = coalesce(r.lock, j.lock)
    FROM unnest(ids) AS i (id)
    LEFT JOIN LATERAL jsonb_to_record(reschedule -> i.id::text)
        AS r (retry_at timestamptz, priority integer, queue text, lock text) ON true
    WHERE j.id = i.id;
END
$$;
