-- Counters of jobs that are not blocked, or not there. Whoever makes a job blocked holds its row while it writes them.
CREATE FUNCTION procrastinate_deps.repair_stray_counters(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    repaired bigint[];
BEGIN
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
    WITH gone AS (
        DELETE FROM procrastinate_deps.job_blocks AS b
        WHERE b.job_id = ANY (ids) AND NOT EXISTS (
            SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = b.job_id AND (j.status = 'blocked') IS TRUE)
        RETURNING b.job_id
    )
    SELECT array_agg(job_id ORDER BY job_id) INTO repaired FROM gone;
    RETURN repaired;
END
$$;
