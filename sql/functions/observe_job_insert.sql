-- A job that was inserted by hand into a workflow: it is counted, and what depends on the whole workflow waits for it too.
-- (Our own functions do this for all the jobs of a statement at once.)
CREATE FUNCTION procrastinate_deps.observe_job_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling(true);
    joins bigint[] := ARRAY(
        SELECT DISTINCT d.child_id
        FROM procrastinate_deps.workflow_dependents AS d
        WHERE d.workflow_id IN (
            SELECT unnest(w.path) FROM procrastinate_deps.workflows AS w WHERE w.id = NEW.workflow_id));
BEGIN
    joins := procrastinate_deps.hold_waiting('{}', joins, '{}');
    PERFORM procrastinate_deps.hold_workflows(ARRAY[NEW.workflow_id]);
    PERFORM procrastinate_deps.count_new_jobs(ARRAY[NEW.id], '{}');
    IF cardinality(joins) > 0 THEN
        PERFORM procrastinate_deps.join_new_jobs('[]', ARRAY[NEW.id], joins, false);
        PERFORM procrastinate_deps.release_locks(joins);
    END IF;
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN NULL;
END
$$;

CREATE TRIGGER observe_job_insert AFTER INSERT ON procrastinate_deps.jobs
FOR EACH ROW
WHEN (NEW.workflow_id IS NOT NULL
    AND coalesce(current_setting('procrastinate_deps_internal.settling', true), '')
        <> concat('procrastinate_deps', ' ', pg_trigger_depth()))
EXECUTE FUNCTION procrastinate_deps.observe_job_insert();
