-- Deletes ended jobs, oldest first, at most max_jobs; returns how many. Never takes a job that an unfinished child still
-- has. Small batches: call again while it returns max_jobs.
CREATE FUNCTION procrastinate_deps.prune_jobs(
    older_than interval, statuses text[] DEFAULT '{succeeded}', queue text DEFAULT NULL, max_jobs integer DEFAULT 1000
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pruned bigint;
    ended bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    ended := ARRAY(
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.finished_at < now() - older_than AND j.status::text = ANY (statuses)
            AND (prune_jobs.queue IS NULL OR j.queue = prune_jobs.queue)
            AND NOT procrastinate_deps.has_live_children(j.id)
        ORDER BY j.finished_at
        LIMIT max_jobs
        FOR UPDATE OF j SKIP LOCKED);
    -- a new statement, now that nobody can add a child: it sees one that was added meanwhile
    DELETE FROM procrastinate_deps.jobs AS j
    WHERE j.id = ANY (ended) AND NOT procrastinate_deps.has_live_children(j.id);
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN pruned;
END
$$;
