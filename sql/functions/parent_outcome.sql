-- What a parent's present state means for the rules: the name of a column of job_blocks.
CREATE FUNCTION procrastinate_deps.parent_outcome(
    status procrastinate_deps.job_status, kind procrastinate_deps.cancel_kind
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN status IN ('blocked', 'todo', 'doing') THEN 'live'
        WHEN status = 'succeeded' THEN 'succeeded'
        WHEN status = 'cancelled' AND kind = 'manual' THEN 'cancelled'
        WHEN status = 'cancelled' AND kind = 'not_needed' THEN 'not_needed'
        ELSE 'failed'
    END
$$;
