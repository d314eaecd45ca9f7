-- Deletes up to max_rows rows of numbers that are older; returns how many. Workers that do it at once pass each other by.
CREATE FUNCTION procrastinate_deps.prune_job_stats(older_than interval, max_rows integer DEFAULT 1000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pruned bigint;
BEGIN
    DELETE FROM procrastinate_deps.job_stats
    WHERE ctid = ANY (ARRAY(
        SELECT s.ctid
        FROM procrastinate_deps.job_stats AS s
        WHERE s.minute < now() - older_than
        ORDER BY s.minute
        LIMIT max_rows
        FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN pruned;
END
$$;
