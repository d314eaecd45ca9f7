-- Stores how far running jobs have come, each under the claim that it runs by; what another claim's run says is dropped.
-- The arrays go together. Returns the jobs that another transaction holds at the moment: the caller tells of them again.
-- A job's row is held against deletion, or a report could outlive its job; never waited for: the end of a job goes first.
CREATE FUNCTION procrastinate_deps.set_progress(
    ids bigint[], claims bigint[], dones double precision[], totals double precision[], messages text[]
) RETURNS SETOF bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET lock_timeout = '1s'
AS $$
DECLARE
    held bigint[];
BEGIN
    held := ARRAY(
        SELECT j.id
        FROM unnest(ids, claims) AS u (id, claim)
        JOIN procrastinate_deps.jobs AS j ON j.id = u.id
        WHERE j.claim = u.claim
        ORDER BY j.id
        FOR KEY SHARE OF j SKIP LOCKED);
    INSERT INTO procrastinate_deps.job_progress AS p (job_id, claim, done, total, message, updated_at)
    SELECT j.id, j.claim, u.done, u.total, u.message, clock_timestamp()
    FROM unnest(ids, claims, dones, totals, messages) AS u (id, claim, done, total, message)
    JOIN procrastinate_deps.jobs AS j ON j.id = u.id
    WHERE j.claim = u.claim AND (j.id IN (SELECT unnest(held))) IS TRUE
    ORDER BY j.id
    ON CONFLICT (job_id) DO UPDATE
    SET claim = excluded.claim, done = excluded.done, total = excluded.total, message = excluded.message,
        updated_at = excluded.updated_at;
    RETURN QUERY
    SELECT j.id
    FROM unnest(ids, claims) AS u (id, claim)
    JOIN procrastinate_deps.jobs AS j ON j.id = u.id
    WHERE j.claim = u.claim AND (j.id IN (SELECT unnest(held))) IS NOT TRUE;
END
$$;
