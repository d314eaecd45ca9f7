-- Hands on the locks that these jobs were holding, where they no longer do.
CREATE FUNCTION procrastinate_deps.release_locks(ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM procrastinate_deps.hand_over_locks(ARRAY(
        SELECT l.lock
        FROM procrastinate_deps.jobs AS j
        JOIN procrastinate_deps.locks AS l ON l.lock = j.lock AND l.job_id = j.id
        WHERE j.id = ANY (ids) AND j.lock IS NOT NULL));
END
$$;
