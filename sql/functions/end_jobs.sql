-- What follows from the end of jobs, in one place for every way they can end. ended: terminal now, held FOR UPDATE.
-- Children are settled first: one of them may be next in line for a lock that its parent had.
CREATE FUNCTION procrastinate_deps.end_jobs(ended bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (SELECT FROM procrastinate_deps.job_dependencies WHERE parent_id = ANY (ended)) THEN
        PERFORM procrastinate_deps.settle(ended);
    END IF;
    PERFORM procrastinate_deps.release_locks(ended);
END
$$;
