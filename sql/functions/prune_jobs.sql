-- Deletes ended jobs, oldest first, at most max_jobs; never one that an unfinished child still has. Small batches: call
-- again with ended_from = reached until that is NULL. (Without ended_from each batch would pass by the same jobs again
-- that are old and stay: of other queues, or had by an unfinished child.) pruned may be less than max_jobs before that:
-- jobs that someone holds are left for a later time. A job of a workflow goes with the whole of it (prune_workflows), and
-- only when no queue is named.
-- Two deletions at once would wait for each other, even in a circle, where one has a job and the other its child: so it
-- is one batch at a time. wait => false: returns pruned = NULL at once while someone else is at it.
CREATE FUNCTION procrastinate_deps.prune_jobs(
    older_than interval, statuses text[] DEFAULT '{succeeded}', queue text DEFAULT NULL, max_jobs integer DEFAULT 1000,
    ended_from timestamptz DEFAULT NULL, wait boolean DEFAULT true,
    OUT pruned bigint, OUT reached timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    oldest bigint[];
    ended bigint[];
    of_workflows bigint;
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    IF wait THEN
        PERFORM pg_advisory_xact_lock(procrastinate_deps.prune_key());
    ELSIF NOT pg_try_advisory_xact_lock(procrastinate_deps.prune_key()) THEN
        RETURN;
    END IF;
    -- the oldest of each status, then of all of them: the index has them by status
    SELECT array_agg(x.id), CASE WHEN count(*) >= max_jobs THEN max(x.finished_at) END
    INTO oldest, reached
    FROM (
        SELECT best.id, best.finished_at
        FROM unnest(statuses::procrastinate_deps.job_status[]) AS s (status)
        CROSS JOIN LATERAL (
            SELECT j.id, j.finished_at
            FROM procrastinate_deps.jobs AS j
            WHERE j.status = s.status
                AND j.finished_at >= coalesce(ended_from, '-infinity') AND j.finished_at < now() - older_than
                AND (prune_jobs.queue IS NULL OR j.queue = prune_jobs.queue)
                AND j.workflow_id IS NULL
                AND NOT procrastinate_deps.has_live_children(j.id)
            ORDER BY j.finished_at
            LIMIT max_jobs
        ) AS best
        ORDER BY best.finished_at
        LIMIT max_jobs
    ) AS x;
    ended := ARRAY(
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (oldest) AND j.finished_at < now() - older_than
        ORDER BY j.id
        FOR UPDATE OF j SKIP LOCKED);
    -- a new statement, now that nobody can add a child: it sees one that was added meanwhile
    DELETE FROM procrastinate_deps.jobs AS j
    WHERE j.id = ANY (ended) AND NOT procrastinate_deps.has_live_children(j.id);
    GET DIAGNOSTICS pruned = ROW_COUNT;
    IF reached IS NULL AND prune_jobs.queue IS NULL THEN
        of_workflows := procrastinate_deps.prune_workflows(older_than, statuses, max_jobs - pruned);
        IF of_workflows >= max_jobs - pruned THEN
            -- the next batch passes by all jobs without a workflow
            reached := now() - older_than;
        END IF;
        pruned := pruned + of_workflows;
    END IF;
    -- nothing of the batch could be deleted, and its end is where it began: the next one would be the same
    IF pruned = 0 AND reached = ended_from THEN
        reached := NULL;
    END IF;
END
$$;
