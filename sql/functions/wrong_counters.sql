-- Which of these blocked jobs have no counters or wrong ones, or wait for nobody?
CREATE FUNCTION procrastinate_deps.wrong_counters(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN ARRAY(
        SELECT j.id
        FROM procrastinate_deps.count_parents(ids) AS c
        JOIN procrastinate_deps.jobs AS j ON j.id = c.job_id
        LEFT JOIN procrastinate_deps.job_blocks AS b ON b.job_id = c.job_id
        WHERE j.status = 'blocked' AND (
            c.live = 0 OR (b.live, b.succeeded, b.failed, b.cancelled, b.not_needed, b.run_when)
                IS DISTINCT FROM (c.live, c.succeeded, c.failed, c.cancelled, c.not_needed, j.run_when))
        ORDER BY j.id);
END
$$;
