-- TRUNCATE jobs CASCADE takes the tables with foreign keys along; these have none. Workflows stay, empty.
CREATE FUNCTION procrastinate_deps.clean_up_truncated_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settling text;
BEGIN
    TRUNCATE procrastinate_deps.job_blocks, procrastinate_deps.locks, procrastinate_deps.job_events,
        procrastinate_deps.job_progress, procrastinate_deps.job_waits, procrastinate_deps.workflow_deltas;
    -- not truncated: TRUNCATE workflows CASCADE is just doing that
    DELETE FROM procrastinate_deps.workflow_dependents;
    settling := procrastinate_deps.start_settling(true);
    UPDATE procrastinate_deps.workflows AS w
    SET total = 0, blocked = 0, succeeded = 0, failed = 0, aborted = 0, cancelled = 0, upstream = 0, not_needed = 0,
        finished_at = coalesce(w.finished_at, now()), holds_name = false
    WHERE w.total > 0 OR w.finished_at IS NULL;
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN NULL;
END
$$;

CREATE TRIGGER clean_up_truncated_jobs AFTER TRUNCATE ON procrastinate_deps.jobs
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_deps.clean_up_truncated_jobs();
