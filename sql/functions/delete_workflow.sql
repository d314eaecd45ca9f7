-- Deletes a workflow and what is nested in it, with all their jobs; returns how many jobs. A live job counts as cancelled
-- for its children outside.
CREATE FUNCTION procrastinate_deps.delete_workflow(workflow_id bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    upward bigint[];
    deleted bigint;
BEGIN
    PERFORM procrastinate_deps.lock_workflow_tree(workflow_id);
    SELECT w.path INTO upward FROM procrastinate_deps.workflows AS w WHERE w.id = delete_workflow.workflow_id;
    deleted := procrastinate_deps.delete_jobs_of(procrastinate_deps.workflow_tree(ARRAY[workflow_id]));
    DELETE FROM procrastinate_deps.workflows AS w WHERE w.id = delete_workflow.workflow_id;
    PERFORM procrastinate_deps.fold_workflows(upward);
    RETURN deleted;
END
$$;
