-- For who cancels, retries or deletes a workflow: nobody adds jobs to the tree that it is in until the transaction ends.
-- A statement of its own, so that the next ones see what was added by those who came before.
CREATE FUNCTION procrastinate_deps.lock_workflow_tree(workflow bigint) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    root bigint;
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    SELECT w.path[1] INTO root FROM procrastinate_deps.workflows AS w WHERE w.id = workflow AND w.pruned_at IS NULL;
    IF root IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(procrastinate_deps.workflow_key(root));
        PERFORM 1 FROM procrastinate_deps.workflows AS w WHERE w.id = workflow AND w.pruned_at IS NULL;
    END IF;
    IF root IS NULL OR NOT FOUND THEN
        PERFORM procrastinate_deps.refuse_unknown_workflow(workflow);
    END IF;
END
$$;
