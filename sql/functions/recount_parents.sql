-- Brings the counters of blocked jobs, whose rows are held, in line with the truth.
CREATE FUNCTION procrastinate_deps.recount_parents(ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE procrastinate_deps.job_blocks AS b
    SET live = c.live, succeeded = c.succeeded, failed = c.failed, cancelled = c.cancelled, not_needed = c.not_needed
    FROM procrastinate_deps.count_parents(ids) AS c
    -- ANY: a look-up, see settle
    WHERE b.job_id = ANY (ARRAY[c.job_id]);
END
$$;
