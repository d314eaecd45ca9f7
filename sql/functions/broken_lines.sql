-- Which of these jobs run without holding their lock, are parked for one that nobody has, or have one that they may not?
CREATE FUNCTION procrastinate_deps.broken_lines(ids bigint[]) RETURNS TABLE (job_id bigint, lock text)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN QUERY
    SELECT j.id, j.lock
    FROM procrastinate_deps.jobs AS j
    LEFT JOIN procrastinate_deps.locks AS l ON l.lock = j.lock
    WHERE j.id = ANY (ids) AND j.lock IS NOT NULL AND (
        (j.status = 'doing' AND l.job_id IS DISTINCT FROM j.id)
        OR (j.gate = 'lock' AND (l.job_id IS NULL OR l.job_id = j.id)
            AND NOT EXISTS (SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = j.queue))) IS TRUE
    UNION
    SELECT l.job_id, l.lock
    FROM procrastinate_deps.locks AS l
    LEFT JOIN procrastinate_deps.jobs AS j ON j.id = l.job_id AND j.lock = l.lock
    WHERE l.job_id = ANY (ids) AND NOT coalesce(
        j.status = 'doing' OR (j.status = 'todo' AND j.gate IS NULL AND NOT EXISTS (
            SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = j.queue)), false);
END
$$;
