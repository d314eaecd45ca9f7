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
        scheduled_at = r.at,
        gate = procrastinate_deps.gate_for(r.at),
        priority = coalesce(r.priority, j.priority),
        queue = coalesce(r.queue, j.queue),
        lock = coalesce(r.lock, j.lock)
    FROM unnest(ids) AS i (id)
    LEFT JOIN LATERAL (
        SELECT coalesce(x.retry_at, now() + make_interval(secs => x.retry_in)) AS at, x.priority, x.queue, x.lock
        FROM jsonb_to_record(reschedule -> i.id::text)
            AS x (retry_at timestamptz, retry_in double precision, priority integer, queue text, lock text)
    ) AS r ON true
    WHERE j.id = i.id;
END
$$;
