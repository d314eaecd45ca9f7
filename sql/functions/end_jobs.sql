-- What follows from the end of jobs, in one place for every way they can end. ended: terminal now, held FOR UPDATE.
-- Children are settled first: one of them may be next in line for a lock that its parent had.
-- with_lock: those of them that have a lock, where that is known; NULL: any of them may.
-- Where a function was called between the end of these jobs and this (by a user's own trigger: see start_settling), one of
-- them may live again, and a child may have counted an end already.
CREATE FUNCTION procrastinate_deps.end_jobs(ended bigint[], with_lock bigint[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (SELECT FROM procrastinate_deps.job_dependencies WHERE parent_id = ANY (ended)) THEN
        IF coalesce(current_setting('procrastinate_deps_internal.interrupted', true), '') = '' THEN
            PERFORM procrastinate_deps.settle(ended);
        ELSE
            PERFORM procrastinate_deps.settle_anew(ended);
        END IF;
    END IF;
    IF with_lock IS NULL OR cardinality(with_lock) > 0 THEN
        PERFORM procrastinate_deps.release_locks(coalesce(with_lock, ended));
    END IF;
END
$$;
