-- Which blocked jobs of a workflow, and of those nested in it, are bound to be cancelled by their rule: see doomed_jobs.
CREATE FUNCTION procrastinate_deps.doomed_in_workflow(workflow_id bigint, max_looked_at integer DEFAULT 100000)
RETURNS TABLE (job_id bigint, kind text, because bigint, root bigint, root_status text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    blocked bigint[] := ARRAY(
        WITH RECURSIVE nested (id) AS (
            SELECT doomed_in_workflow.workflow_id
            UNION
            SELECT w.id FROM nested JOIN procrastinate_deps.workflows AS w ON w.parent_id = nested.id
        )
        SELECT j.id
        FROM nested
        JOIN procrastinate_deps.jobs AS j ON j.workflow_id = nested.id
        WHERE (j.status = 'blocked') IS TRUE
        LIMIT max_looked_at);
BEGIN
    RETURN QUERY
    SELECT d.job_id, d.kind, d.because, d.root, d.root_status
    FROM procrastinate_deps.doomed_jobs(blocked, max_looked_at) AS d;
END
$$;
