-- Claims up to max_jobs jobs of these queues (NULL: all) for a registered worker: due, their parents terminal, their queue
-- not paused, their lock free. Best priority first, then by id. Its cost does not grow with jobs that are blocked,
-- scheduled, parked behind a lock or ended: none of them is in the index that it reads.
-- FOR NO KEY UPDATE, not FOR UPDATE: that would pass by a job to which an open transaction is just adding a child.
-- Each statement picks ids into an array and the next uses it: with the plan pinned, a LIMIT inside a join would be
-- taken for 10 % of the table (measured: 15 times slower).
CREATE FUNCTION procrastinate_deps.fetch_jobs(queues text[], worker_id bigint, max_jobs integer)
RETURNS SETOF procrastinate_deps.jobs
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    settling text := procrastinate_deps.start_settling();
    open_queues text[];
    wanted integer := max_jobs;
    seen integer;
    candidates bigint[];
    picked bigint[];
    tried bigint[] := '{}';
    contended text[] := '{}';
    newly_contended text[];
    with_lock bigint[];
    winners bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    PERFORM 1 FROM procrastinate_deps.workers AS w WHERE w.id = fetch_jobs.worker_id AND w.lost_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'worker % is not registered, or was declared lost', fetch_jobs.worker_id
        USING ERRCODE = 'PD008', HINT = 'Register the worker (register_worker) and fetch with the new id.';
    END IF;
    PERFORM procrastinate_deps.promote_due(1000);
    open_queues := procrastinate_deps.open_queues(fetch_jobs.queues);

    -- a round more only where jobs were left to other fetches or parked behind their locks
    FOR round IN 1 .. 20 LOOP
        EXIT WHEN wanted <= 0 OR cardinality(open_queues) = 0;
        IF cardinality(open_queues) = 1 THEN
            SELECT array_agg(x.id), array_agg(x.id) FILTER (WHERE x.lock IS NOT NULL)
            INTO picked, with_lock
            FROM (
                SELECT j.id, j.lock
                FROM procrastinate_deps.jobs AS j
                WHERE j.status = 'todo' AND j.gate IS NULL AND j.queue = open_queues[1]
                    AND (j.lock IS NULL OR j.lock <> ALL (contended))
                ORDER BY j.priority DESC, j.id
                LIMIT wanted
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS x;
            seen := cardinality(picked);
        ELSE
            -- Several queues in one order: the best of each, unlocked, then the best of all of them are locked. To lock
            -- the best of each would hide jobs that are not taken from other fetches.
            candidates := ARRAY(
                SELECT best.id
                FROM unnest(open_queues) AS q (queue)
                CROSS JOIN LATERAL (
                    SELECT j.id, j.priority
                    FROM procrastinate_deps.jobs AS j
                    WHERE j.status = 'todo' AND j.gate IS NULL AND j.queue = q.queue
                        AND (j.lock IS NULL OR j.lock <> ALL (contended)) AND j.id <> ALL (tried)
                    ORDER BY j.priority DESC, j.id
                    LIMIT wanted
                ) AS best
                ORDER BY best.priority DESC, best.id
                LIMIT wanted);
            seen := cardinality(candidates);
            SELECT array_agg(x.id), array_agg(x.id) FILTER (WHERE x.lock IS NOT NULL)
            INTO picked, with_lock
            FROM (
                SELECT j.id, j.lock
                FROM procrastinate_deps.jobs AS j
                WHERE j.id = ANY (candidates) AND j.status = 'todo' AND j.gate IS NULL
                ORDER BY j.priority DESC, j.id
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS x;
            tried := tried || candidates;
        END IF;
        EXIT WHEN seen IS NULL OR seen = 0;
        IF with_lock IS NOT NULL THEN
            SELECT e.winners, e.contended INTO winners, newly_contended
            FROM procrastinate_deps.enter_lock_lines(with_lock, open_queues) AS e;
            contended := contended || newly_contended;
            picked := ARRAY(SELECT unnest(picked) EXCEPT SELECT unnest(with_lock) UNION ALL SELECT unnest(winners));
        END IF;
        IF cardinality(picked) > 0 THEN
            RETURN QUERY
            WITH claimed AS (
                UPDATE procrastinate_deps.jobs AS j
                SET status = 'doing', claim = j.claim + 1, worker_id = fetch_jobs.worker_id, started_at = now()
                WHERE j.id = ANY (picked) AND j.status = 'todo'
                RETURNING j.*
            )
            SELECT c.* FROM claimed AS c ORDER BY c.priority DESC, c.id;
            -- without locks a batch that came short of what was found means contention, and of what was wanted, the end
            EXIT WHEN with_lock IS NULL AND seen < wanted;
            wanted := wanted - cardinality(picked);
        END IF;
    END LOOP;
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
