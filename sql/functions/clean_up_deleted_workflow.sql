-- However a workflow is deleted, its jobs go first, with those of what is nested in it: while the rows are there the
-- counts of the workflows that it is nested in can follow. Then its deltas go: whoever wrote one held a job that is gone.
CREATE FUNCTION procrastinate_deps.clean_up_deleted_workflow() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    IF TG_WHEN = 'BEFORE' THEN
        PERFORM procrastinate_deps.delete_jobs_of(procrastinate_deps.workflow_tree(ARRAY[OLD.id]));
        RETURN OLD;
    END IF;
    DELETE FROM procrastinate_deps.workflow_deltas AS d WHERE d.workflow_id = OLD.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER clean_up_deleted_workflow BEFORE DELETE ON procrastinate_deps.workflows
FOR EACH ROW EXECUTE FUNCTION procrastinate_deps.clean_up_deleted_workflow();

CREATE TRIGGER clean_up_deleted_workflow_deltas AFTER DELETE ON procrastinate_deps.workflows
FOR EACH ROW EXECUTE FUNCTION procrastinate_deps.clean_up_deleted_workflow();
