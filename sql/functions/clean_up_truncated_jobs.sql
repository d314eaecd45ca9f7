-- TRUNCATE jobs CASCADE takes the tables with foreign keys along; these have none.
CREATE FUNCTION procrastinate_deps.clean_up_truncated_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    TRUNCATE procrastinate_deps.job_blocks, procrastinate_deps.locks, procrastinate_deps.job_events;
    RETURN NULL;
END
$$;

CREATE TRIGGER clean_up_truncated_jobs AFTER TRUNCATE ON procrastinate_deps.jobs
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_deps.clean_up_truncated_jobs();
