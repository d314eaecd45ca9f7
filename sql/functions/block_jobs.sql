-- Makes jobs blocked that are not. They are held FOR UPDATE and their parents KEY SHARE, both by an earlier statement.
CREATE FUNCTION procrastinate_deps.block_jobs(ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_deps.job_blocks (job_id, run_when, live, succeeded, failed, cancelled, not_needed)
    SELECT c.job_id, j.run_when, c.live, c.succeeded, c.failed, c.cancelled, c.not_needed
    FROM procrastinate_deps.count_parents(ids) AS c
    -- OFFSET 0: look-ups, see count_ends
    CROSS JOIN LATERAL (SELECT x.run_when FROM procrastinate_deps.jobs AS x WHERE x.id = c.job_id OFFSET 0) AS j;

    UPDATE procrastinate_deps.jobs
    SET status = 'blocked', gate = NULL, cancel_kind = NULL, cancel_reason = NULL, finished_at = NULL,
        ignores_dependencies = false
    WHERE id = ANY (ids);
END
$$;
