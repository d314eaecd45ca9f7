-- Claims up to max_jobs jobs of these queues (NULL: all) for a registered worker: due, their parents terminal, their queue
-- not paused, their lock free. Best priority first, then by id. Its cost does not grow with jobs that are blocked,
-- scheduled, parked behind a lock or ended: none of them is in the index that it reads.
-- lock_free: takes the best max_jobs, and leaves those of them that have a lock; it then waits for nobody, so that it may
-- follow a finish in one transaction (the setting left then says whether there were any).
-- FOR NO KEY UPDATE, not FOR UPDATE: that would pass by a job to which an open transaction is just adding a child.
-- Each statement picks ids into an array and the next uses it: with the plan pinned, a LIMIT inside a join would be
-- taken for 10 % of the table (measured: 15 times slower).
--
-- Entries of claimed jobs stay at the head of the index until vacuum has removed them, which it can't while anyone holds
-- an old snapshot; walking them took 7 ms a fetch after 100,000 jobs. So where a fetch has read many pages of the index,
-- the next ones of its session begin behind the last job that was claimed (skip_dead_entries), for 20 times as long as the
-- full look took and at most a second. So much later may a job of higher priority start that comes in meanwhile. A fetch
-- that finds less than it wants looks from the start at once.
CREATE FUNCTION procrastinate_deps.fetch_jobs(
    queues text[], worker_id bigint, max_jobs integer, lock_free boolean DEFAULT false
) RETURNS SETOF procrastinate_deps.jobs
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    settling text := procrastinate_deps.start_settling();
    -- where to begin in each queue, while dead entries are skipped
    begin_at jsonb;
    skipping boolean := false;
    pages_before bigint;
    looked_at timestamptz;
    open_queues text[];
    wanted integer := max_jobs;
    seen integer;
    -- whether nothing was left that could be fetched
    all_seen boolean := false;
    candidates bigint[];
    picked bigint[];
    tried bigint[] := '{}';
    contended text[] := '{}';
    newly_contended text[];
    last_rank integer;
    last_places jsonb;
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
    IF coalesce(current_setting('procrastinate_deps_internal.begin_at', true), '') <> '' THEN
        begin_at := procrastinate_deps.where_to_begin(fetch_jobs.queues);
        skipping := begin_at IS NOT NULL;
    END IF;
    IF begin_at IS NOT NULL THEN
        open_queues := procrastinate_deps.open_queues(ARRAY(SELECT jsonb_object_keys(begin_at)));
        IF cardinality(open_queues) = 0 THEN
            begin_at := NULL;
        END IF;
    END IF;
    IF begin_at IS NULL THEN
        looked_at := clock_timestamp();
        pages_before := procrastinate_deps.fetch_pages_read();
        open_queues := procrastinate_deps.open_queues(fetch_jobs.queues);
    END IF;

    -- a round more only where jobs were left to other fetches or parked behind their locks
    FOR round IN 1 .. 20 LOOP
        EXIT WHEN wanted <= 0 OR cardinality(open_queues) = 0;
        IF cardinality(open_queues) = 1 THEN
            SELECT array_agg(x.id), array_agg(x.id) FILTER (WHERE x.lock IS NOT NULL), max(x.rank)
            INTO picked, with_lock, last_rank
            FROM (
                SELECT j.id, j.lock, ~j.priority AS rank
                FROM procrastinate_deps.jobs AS j
                WHERE j.status = 'todo' AND j.gate IS NULL AND j.queue = open_queues[1]
                    AND (j.lock IS NULL OR j.lock <> ALL (contended))
                    AND (~j.priority, j.id) > (
                        coalesce((begin_at -> open_queues[1] ->> 0)::integer, -2147483648),
                        coalesce((begin_at -> open_queues[1] ->> 1)::bigint, -9223372036854775808))
                ORDER BY ~j.priority, j.id
                LIMIT wanted
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS x;
            seen := cardinality(picked);
            last_places := jsonb_build_object(open_queues[1], jsonb_build_array(last_rank, picked[seen]));
        ELSE
            -- Several queues in one order: the best of each, unlocked, then the best of all of them are locked. To lock
            -- the best of each would hide jobs that are not taken from other fetches.
            candidates := ARRAY(
                SELECT best.id
                FROM unnest(open_queues) AS q (queue)
                CROSS JOIN LATERAL (
                    SELECT j.id, ~j.priority AS rank
                    FROM procrastinate_deps.jobs AS j
                    WHERE j.status = 'todo' AND j.gate IS NULL AND j.queue = q.queue
                        AND (j.lock IS NULL OR j.lock <> ALL (contended)) AND j.id <> ALL (tried)
                        AND (~j.priority, j.id) > (
                            coalesce((begin_at -> q.queue ->> 0)::integer, -2147483648),
                            coalesce((begin_at -> q.queue ->> 1)::bigint, -9223372036854775808))
                    ORDER BY ~j.priority, j.id
                    LIMIT wanted
                ) AS best
                ORDER BY best.rank, best.id
                LIMIT wanted);
            seen := cardinality(candidates);
            SELECT array_agg(x.id), array_agg(x.id) FILTER (WHERE x.lock IS NOT NULL)
            INTO picked, with_lock
            FROM (
                SELECT j.id, j.lock
                FROM procrastinate_deps.jobs AS j
                -- IS TRUE: by its primary key. Of a table that was never analysed the planner may read all of jobs_fetch
                WHERE j.id = ANY (candidates) AND (j.status = 'todo' AND j.gate IS NULL) IS TRUE
                ORDER BY ~j.priority, j.id
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS x;
            tried := tried || candidates;
            last_places := NULL;
        END IF;
        all_seen := begin_at IS NULL AND coalesce(seen, 0) < wanted;
        IF begin_at IS NOT NULL AND coalesce(seen, 0) < wanted THEN
            -- the rest, if any, is before where this one began
            begin_at := NULL;
            open_queues := procrastinate_deps.open_queues(fetch_jobs.queues);
            CONTINUE WHEN picked IS NULL;
            seen := wanted;
        ELSIF pages_before IS NOT NULL AND procrastinate_deps.fetch_pages_read() - pages_before
            -- what it reads of an index without dead entries: twice a way down for each queue, and what it finds
            > 24 + 6 * cardinality(open_queues) + max_jobs / 20
        THEN
            begin_at := (SELECT jsonb_object_agg(q.queue, '[]'::jsonb) FROM unnest(open_queues) AS q (queue));
        END IF;
        pages_before := NULL;
        EXIT WHEN seen IS NULL OR seen = 0;
        IF with_lock IS NOT NULL THEN
            IF lock_free THEN
                picked := ARRAY(SELECT unnest(picked) EXCEPT SELECT unnest(with_lock));
            ELSE
                SELECT e.winners, e.contended INTO winners, newly_contended
                FROM procrastinate_deps.enter_lock_lines(with_lock, open_queues) AS e;
                contended := contended || newly_contended;
                picked := ARRAY(SELECT unnest(picked) EXCEPT SELECT unnest(with_lock) UNION ALL SELECT unnest(winners));
            END IF;
        END IF;
        IF cardinality(picked) > 0 THEN
            RETURN QUERY
            WITH claimed AS (
                UPDATE procrastinate_deps.jobs AS j
                -- not now(): a parent may have been ended by a transaction that began after this one, at its own now()
                SET status = 'doing', claim = j.claim + 1, worker_id = fetch_jobs.worker_id, started_at = clock_timestamp()
                WHERE j.id = ANY (picked) AND j.status = 'todo'
                RETURNING j.*
            )
            SELECT c.* FROM claimed AS c ORDER BY c.priority DESC, c.id;
            IF begin_at IS NOT NULL AND NOT (lock_free AND with_lock IS NOT NULL) THEN
                begin_at := begin_at || coalesce(last_places, procrastinate_deps.last_places(picked));
            END IF;
            -- without locks a batch that came short of what was found means contention, and of what was wanted, the end
            EXIT WHEN with_lock IS NULL AND seen < wanted;
            wanted := wanted - cardinality(picked);
        END IF;
        EXIT WHEN lock_free AND with_lock IS NOT NULL;
    END LOOP;
    IF skipping OR begin_at IS NOT NULL THEN
        PERFORM procrastinate_deps.skip_dead_entries(fetch_jobs.queues, begin_at, clock_timestamp() - looked_at);
    END IF;
    IF lock_free THEN
        PERFORM set_config(
            'procrastinate_deps_internal.left', CASE WHEN with_lock IS NULL THEN 'no' ELSE 'yes' END, true);
        PERFORM procrastinate_deps.announce_left(all_seen AND with_lock IS NULL, fetch_jobs.queues);
    END IF;
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
