-- Every invariant, counted against the tables in one snapshot: no row means a healthy database. They hold in every
-- committed state, so that nothing has to be stopped to ask.
CREATE FUNCTION procrastinate_deps.violations() RETURNS TABLE (invariant text, jobs bigint, examples bigint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH ends AS (
        SELECT
            d.child_id,
            procrastinate_deps.parent_outcome(p.status, p.cancel_kind) AS outcome,
            -- revived by hand on the understanding that its dependents stay as they are
            procrastinate_deps.is_live(p.status) AND EXISTS (
                SELECT FROM procrastinate_deps.job_events AS e
                WHERE e.job_id = p.id AND e.type = 'retried' AND e.detail ->> 'reset_dependents' = 'false') AS excused
        FROM procrastinate_deps.job_dependencies AS d
        JOIN procrastinate_deps.jobs AS p ON p.id = d.parent_id
        UNION ALL
        SELECT x.child_id, procrastinate_deps.parent_outcome(x.status, x.cancel_kind), false
        FROM procrastinate_deps.deleted_parents AS x
    ),
    truth AS MATERIALIZED (
        SELECT
            child_id,
            count(*) FILTER (WHERE outcome = 'live')::integer AS live,
            count(*) FILTER (WHERE outcome = 'live' AND NOT excused)::integer AS live_unexcused,
            count(*) FILTER (WHERE outcome = 'succeeded')::integer AS succeeded,
            count(*) FILTER (WHERE outcome = 'failed')::integer AS failed,
            count(*) FILTER (WHERE outcome = 'cancelled')::integer AS cancelled,
            count(*) FILTER (WHERE outcome = 'not_needed')::integer AS not_needed
        FROM ends
        GROUP BY child_id
    ),
    job AS MATERIALIZED (
        SELECT
            j.id, j.status, j.gate, j.lock, j.queue, j.run_when, j.cancel_kind, j.scheduled_at,
            j.started_at IS NULL AND NOT j.ignores_dependencies AS untouched,
            coalesce(t.live, 0) AS live,
            coalesce(t.live_unexcused, 0) AS live_unexcused, coalesce(t.succeeded, 0) AS succeeded, coalesce(t.failed, 0) AS failed,
            coalesce(t.cancelled, 0) AS cancelled, coalesce(t.not_needed, 0) AS not_needed,
            b.job_id IS NOT NULL AS has_block,
            (b.live, b.succeeded, b.failed, b.cancelled, b.not_needed, b.run_when) AS counted,
            l.job_id AS lock_holder,
            EXISTS (SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = j.queue) AS paused
        FROM procrastinate_deps.jobs AS j
        LEFT JOIN truth AS t ON t.child_id = j.id
        LEFT JOIN procrastinate_deps.job_blocks AS b ON b.job_id = j.id
        LEFT JOIN procrastinate_deps.locks AS l ON l.lock = j.lock
    ),
    broken (invariant, id) AS (
        SELECT 'a blocked job has counters', id FROM job WHERE status = 'blocked' AND NOT has_block
        UNION ALL
        SELECT 'only a blocked job has counters', id FROM job WHERE status <> 'blocked' AND has_block
        UNION ALL
        SELECT 'the counters of a blocked job are right', id FROM job
        WHERE status = 'blocked' AND has_block
            AND counted IS DISTINCT FROM (live, succeeded, failed, cancelled, not_needed, run_when)
        UNION ALL
        SELECT 'a blocked job has a live parent', id FROM job WHERE status = 'blocked' AND live = 0
        UNION ALL
        SELECT 'a todo job that was not claimed has no live parent', id FROM job
        WHERE status = 'todo' AND untouched AND live_unexcused > 0
        UNION ALL
        SELECT 'a job cancelled by its rule has no live parent', id FROM job
        WHERE status = 'cancelled' AND cancel_kind <> 'manual' AND live_unexcused > 0
        UNION ALL
        SELECT 'a job cancelled by its rule has the kind of its rule', id FROM job
        WHERE status = 'cancelled' AND cancel_kind <> 'manual'
            AND cancel_kind <> procrastinate_deps.unmet_kind(run_when)
        UNION ALL
        SELECT 'counters belong to a job', b.job_id FROM procrastinate_deps.job_blocks AS b
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = b.job_id)
        UNION ALL
        SELECT 'a deleted parent is gone', x.parent_id FROM procrastinate_deps.deleted_parents AS x
        WHERE EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = x.parent_id)
        UNION ALL
        SELECT 'a running job holds its lock', id FROM job
        WHERE status = 'doing' AND lock IS NOT NULL AND lock_holder IS DISTINCT FROM id
        UNION ALL
        SELECT 'a job parked for a lock waits for somebody', id FROM job
        WHERE gate = 'lock' AND NOT paused AND (lock_holder IS NULL OR lock_holder = id)
        UNION ALL
        SELECT 'who holds a lock runs or may start', l.job_id
        FROM procrastinate_deps.locks AS l
        LEFT JOIN job AS j ON j.id = l.job_id AND j.lock = l.lock
        WHERE NOT coalesce(j.status = 'doing' OR (j.status = 'todo' AND j.gate IS NULL AND NOT j.paused), false)
    )
    SELECT invariant, count(*), (array_agg(id ORDER BY id))[1:5] FROM broken GROUP BY invariant ORDER BY invariant
$$;
