-- Deletes jobs. Without force never a live one, and never one that an unfinished child still has; a live one counts as
-- cancelled for its children. One row for each id: outcome is deleted, or refused for a reason.
CREATE FUNCTION procrastinate_deps.delete_jobs(job_ids bigint[], force boolean DEFAULT false)
RETURNS TABLE (job_id bigint, outcome text, reason text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    held bigint[];
    deleted bigint[];
    refused bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    job_ids := array_remove(job_ids, NULL);
    -- one deletion of many jobs at a time: see prune_jobs
    PERFORM pg_advisory_xact_lock(procrastinate_deps.prune_key());
    held := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (job_ids) AND (force OR j.finished_at IS NOT NULL) IS TRUE
        ORDER BY j.id
        FOR UPDATE);
    -- a new statement, now that nobody can add a child: it sees one that was added meanwhile
    refused := CASE WHEN force THEN '{}' ELSE ARRAY(
        SELECT h.id FROM unnest(held) AS h (id) WHERE procrastinate_deps.has_live_children(h.id)) END;
    WITH gone AS (
        DELETE FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (held) AND (j.id <> ALL (refused)) IS TRUE AND (force OR j.finished_at IS NOT NULL) IS TRUE
        RETURNING j.id
    )
    SELECT coalesce(array_agg(g.id), '{}') INTO deleted FROM gone AS g;

    RETURN QUERY
    SELECT i.id, CASE WHEN i.id = ANY (deleted) THEN 'deleted' ELSE 'refused' END, CASE
        WHEN i.id = ANY (deleted) THEN NULL
        WHEN j.id IS NULL THEN format('there is no job %s: it was deleted, or never deferred', i.id)
        WHEN procrastinate_deps.is_live(j.status) THEN
            format('job %s has not ended: it is %s; cancel it first, or delete it by force', i.id, j.status)
        ELSE format('job %s stays: an unfinished child still has it; force deletes it all the same', i.id) END
    FROM (SELECT DISTINCT unnest(job_ids)) AS i (id)
    LEFT JOIN procrastinate_deps.jobs AS j ON j.id = i.id
    ORDER BY i.id;
END
$$;
