-- Lets the ends of these jobs be announced for a while; the rows that say so, for unwatch_jobs. Committed before the jobs
-- are looked at: an end between the two is noticed by one of them. Rows whose time is over go on the way.
CREATE FUNCTION procrastinate_deps.watch_jobs(ids bigint[], for_long interval)
RETURNS TABLE (wait_id bigint, job_id bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM procrastinate_deps.job_waits AS w
    WHERE w.id IN (
        SELECT x.id
        FROM procrastinate_deps.job_waits AS x
        WHERE x.until < clock_timestamp()
        ORDER BY x.id
        LIMIT 100
        FOR UPDATE SKIP LOCKED);
    RETURN QUERY
    INSERT INTO procrastinate_deps.job_waits AS w (job_id, until)
    SELECT DISTINCT u.id, clock_timestamp() + for_long
    FROM unnest(ids) AS u (id)
    RETURNING w.id, w.job_id;
END
$$;
