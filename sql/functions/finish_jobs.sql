-- Ends or requeues claimed jobs, each as its worker says, settles their children and hands on their locks, in one
-- transaction. The arrays go together; a status of todo asks for a retry, described in retries (see requeue_jobs); without
-- an error it gives the job back (a shutdown), which counts as no attempt.
-- Returns only what was NOT done: 'busy' jobs, held by another transaction (the caller must try them again), and 'stale'
-- ones, which this claim no longer owns (they change nothing).
-- Rows that end are taken SKIP LOCKED, but a cascade may still have to wait for an open transaction that holds a child:
-- after lock_wait_ms (1 s) that raises 55P03, nothing is changed, and the caller tries the jobs one by one.
-- fetch_follows: in the same transaction, and it notifies of what became runnable and was not taken.
-- delete_jobs: never, successful or always; a job that an unfinished child still has is never deleted.
CREATE FUNCTION procrastinate_deps.finish_jobs(
    ids bigint[], claims bigint[], statuses text[], results jsonb[], errors text[],
    retries jsonb DEFAULT NULL, delete_jobs text DEFAULT 'never', lock_wait_ms integer DEFAULT 1000,
    fetch_follows boolean DEFAULT false
) RETURNS TABLE (job_id bigint, refused text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
    lock_timeout_before text := current_setting('lock_timeout');
    mine bigint[];
    ended bigint[];
    with_lock bigint[];
    again bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    IF delete_jobs NOT IN ('never', 'successful', 'always') THEN
        RAISE EXCEPTION 'delete_jobs is never, successful or always, not %', delete_jobs USING ERRCODE = '22023';
    END IF;
    PERFORM set_config('lock_timeout', lock_wait_ms::text, true);
    IF fetch_follows THEN
        PERFORM set_config('procrastinate_deps_internal.unannounced', '{}', true);
    END IF;
    mine := ARRAY(
        SELECT j.id
        FROM unnest(ids, claims) AS u (id, claim)
        -- look-ups, also by a plan from when the table was all but empty, which would read all of it in the order of ids
        CROSS JOIN LATERAL (
            SELECT x.id
            FROM procrastinate_deps.jobs AS x
            -- IS TRUE: by its primary key. The index of what is doing would be read whole for each of many ids
            WHERE x.id = u.id AND (x.status = 'doing') IS TRUE AND x.claim = u.claim
            FOR UPDATE SKIP LOCKED
        ) AS j
        ORDER BY j.id);

    IF cardinality(mine) > 0 THEN
        -- an abort that was asked for meanwhile wins over a retry
        WITH done AS (
            UPDATE procrastinate_deps.jobs AS j
            SET status = CASE WHEN u.status = 'todo' THEN 'aborted' ELSE u.status END::procrastinate_deps.job_status,
                finished_at = now(),
                attempts = j.attempts + 1,
                result = u.result,
                error = u.error,
                cancel_kind = CASE WHEN u.status = 'cancelled' THEN 'manual'::procrastinate_deps.cancel_kind END
            FROM unnest(ids, claims, statuses, results, errors) AS u (id, claim, status, result, error)
            -- ANY: a look-up, see settle
            WHERE j.id = ANY (ARRAY[u.id]) AND j.claim = u.claim AND (j.id IN (SELECT unnest(mine))) IS TRUE
                AND (u.status <> 'todo' OR j.abort_requested)
            RETURNING j.id, j.lock
        )
        SELECT array_agg(id), coalesce(array_agg(id) FILTER (WHERE lock IS NOT NULL), '{}') INTO ended, with_lock FROM done;

        IF cardinality(ended) IS DISTINCT FROM cardinality(mine) THEN
            with_lock := NULL;
            again := ARRAY(SELECT unnest(mine) EXCEPT SELECT unnest(ended));
            INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
            SELECT j.id, j.worker_id, j.attempts + 1,
                CASE WHEN u.error IS NULL THEN 'requeued' ELSE 'attempt_failed' END,
                jsonb_strip_nulls(jsonb_build_object(
                    'error', u.error, 'started_at', j.started_at,
                    'retry_at', coalesce(retries -> j.id::text -> 'retry_at', to_jsonb(
                        now() + make_interval(secs => (retries -> j.id::text ->> 'retry_in')::double precision)))))
            FROM unnest(ids, errors) AS u (id, error)
            JOIN procrastinate_deps.jobs AS j ON j.id = u.id
            WHERE j.id = ANY (again);
            UPDATE procrastinate_deps.jobs AS j SET error = u.error
            FROM unnest(ids, errors) AS u (id, error)
            WHERE j.id = u.id AND j.id = ANY (again) AND u.error IS NOT NULL;
            ended := coalesce(ended, '{}') || procrastinate_deps.requeue_jobs(again, retries, false, ARRAY(
                SELECT u.id FROM unnest(ids, errors) AS u (id, error) WHERE u.error IS NULL));
        END IF;
        IF cardinality(ended) > 0 THEN
            PERFORM procrastinate_deps.end_jobs(ended, with_lock);
            IF delete_jobs <> 'never' THEN
                DELETE FROM procrastinate_deps.jobs AS j
                WHERE j.id = ANY (ended) AND (delete_jobs = 'always' OR j.status = 'succeeded')
                    -- a workflow is pruned as a whole
                    AND j.workflow_id IS NULL
                    AND NOT procrastinate_deps.has_live_children(j.id);
            END IF;
        END IF;
    END IF;

    IF cardinality(mine) < cardinality(ids) THEN
        RETURN QUERY
        SELECT u.id, CASE WHEN j.status = 'doing' AND j.claim = u.claim THEN 'busy' ELSE 'stale' END
        FROM unnest(ids, claims) AS u (id, claim)
        LEFT JOIN procrastinate_deps.jobs AS j ON j.id = u.id
        WHERE u.id <> ALL (mine);
    END IF;
    PERFORM set_config('lock_timeout', lock_timeout_before, true);
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
