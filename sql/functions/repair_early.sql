-- Jobs that were released, or cancelled by their rule, while a parent is live: they wait again. Their own dependents, where
-- they have not been claimed, do so too, as after a retry.
CREATE FUNCTION procrastinate_deps.repair_early(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    early bigint[] := procrastinate_deps.decided_early(ids);
    cancelled bigint[];
    revived bigint[] := '{}';
    each bigint;
BEGIN
    IF cardinality(early) = 0 THEN
        RETURN '{}';
    END IF;
    PERFORM procrastinate_deps.hold_with_parents(early, true);
    early := procrastinate_deps.decided_early(early);
    DELETE FROM procrastinate_deps.job_blocks WHERE job_id = ANY (early);
    cancelled := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (early) AND (j.status = 'cancelled') IS TRUE ORDER BY j.id);
    early := ARRAY(SELECT unnest(early) EXCEPT SELECT unnest(cancelled));
    PERFORM procrastinate_deps.block_jobs(early);
    PERFORM procrastinate_deps.release_locks(early);
    FOREACH each IN ARRAY cancelled LOOP
        -- one cancelled by its rule is reset along with another one of these
        CONTINUE WHEN NOT EXISTS (
            SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = each AND (j.status = 'cancelled') IS TRUE);
        BEGIN
            INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
            SELECT j.id, j.worker_id, j.attempts, 'retried',
                jsonb_build_object('from', j.status, 'repaired', true, 'cancel_reason', j.cancel_reason)
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = each;
            UPDATE procrastinate_deps.jobs
            SET status = 'todo', cancel_kind = NULL, cancel_reason = NULL, finished_at = NULL, started_at = NULL
            WHERE id = each;
            PERFORM procrastinate_deps.revive(ARRAY[each]);
            revived := revived || each;
        EXCEPTION WHEN unique_violation OR SQLSTATE 'PD009' OR SQLSTATE 'PD010' THEN
            -- it stays cancelled: another job with its queueing lock is waiting, its workflow is just being pruned, or
            -- another live one has its workflow's name
            NULL;
        END;
    END LOOP;
    RETURN early || revived;
END
$$;
