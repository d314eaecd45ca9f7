-- What a deleted job leaves behind in tables without a foreign key: its lock is handed on, its events go.
CREATE FUNCTION procrastinate_deps.clean_up_deleted_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
BEGIN
    DELETE FROM procrastinate_deps.job_events WHERE job_id IN (SELECT id FROM deleted_jobs);
    PERFORM procrastinate_deps.hand_over_locks(ARRAY(
        SELECT l.lock
        FROM deleted_jobs AS o
        JOIN procrastinate_deps.locks AS l ON l.lock = o.lock AND l.job_id = o.id
        WHERE o.lock IS NOT NULL));
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN NULL;
END
$$;

CREATE TRIGGER clean_up_deleted_jobs AFTER DELETE ON procrastinate_deps.jobs
REFERENCING OLD TABLE AS deleted_jobs
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_deps.clean_up_deleted_jobs();
