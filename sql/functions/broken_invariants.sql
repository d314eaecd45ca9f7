-- Every breach of an invariant, in one snapshot: no row means a healthy database. They hold in every committed state, so
-- that nothing has to be stopped to ask. id is a job's, or a workflow's where the invariant is one of workflows. What
-- stands here repair() can mend.
CREATE FUNCTION procrastinate_deps.broken_invariants() RETURNS TABLE (invariant text, id bigint)
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
    members AS MATERIALIZED (
        SELECT
            p.id,
            count(*) AS total,
            count(*) FILTER (WHERE j.status = 'blocked') AS blocked,
            count(*) FILTER (WHERE j.status = 'succeeded') AS succeeded,
            count(*) FILTER (WHERE j.status = 'failed') AS failed,
            count(*) FILTER (WHERE j.status = 'aborted') AS aborted,
            count(*) FILTER (WHERE j.cancel_kind = 'manual') AS cancelled,
            count(*) FILTER (WHERE j.cancel_kind = 'upstream') AS upstream,
            count(*) FILTER (WHERE j.cancel_kind = 'not_needed') AS not_needed
        FROM procrastinate_deps.jobs AS j
        JOIN procrastinate_deps.workflows AS w ON w.id = j.workflow_id
        CROSS JOIN LATERAL unnest(w.path) AS p (id)
        GROUP BY p.id
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
        SELECT 'an edge joins two jobs', d.child_id FROM procrastinate_deps.job_dependencies AS d
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = d.parent_id)
            OR NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = d.child_id)
        UNION ALL
        SELECT 'a deleted parent had a child that is there', x.child_id FROM procrastinate_deps.deleted_parents AS x
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = x.child_id)
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
        UNION ALL
        SELECT 'the counts of a workflow are those of its jobs', s.id
        FROM procrastinate_deps.workflow_states AS s
        LEFT JOIN members AS m ON m.id = s.id
        WHERE (s.total, s.blocked, s.succeeded, s.failed, s.aborted, s.cancelled, s.upstream, s.not_needed)
            IS DISTINCT FROM (
                coalesce(m.total, 0), coalesce(m.blocked, 0), coalesce(m.succeeded, 0), coalesce(m.failed, 0),
                coalesce(m.aborted, 0), coalesce(m.cancelled, 0), coalesce(m.upstream, 0), coalesce(m.not_needed, 0))
        UNION ALL
        SELECT 'changes of counts belong to a workflow', d.workflow_id
        FROM procrastinate_deps.workflow_deltas AS d
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.workflows AS w WHERE w.id = d.workflow_id)
        UNION ALL
        SELECT 'a live unique workflow has its name', s.id
        FROM procrastinate_deps.workflow_states AS s
        JOIN procrastinate_deps.workflows AS w ON w.id = s.id
        WHERE s.is_unique AND s.ended < s.total AND NOT w.holds_name
        UNION ALL
        SELECT 'who depends on a whole workflow is a job', d.child_id
        FROM procrastinate_deps.workflow_dependents AS d
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = d.child_id)
        UNION ALL
        SELECT 'a blocked job that depends on a whole workflow waits for each live job of it', d.child_id
        FROM procrastinate_deps.workflow_dependents AS d
        JOIN procrastinate_deps.jobs AS c ON c.id = d.child_id AND c.status = 'blocked'
        WHERE EXISTS (
            SELECT
            FROM procrastinate_deps.workflows AS w
            JOIN procrastinate_deps.jobs AS p ON p.workflow_id = w.id
            WHERE w.path @> ARRAY[d.workflow_id] AND procrastinate_deps.is_live(p.status) AND NOT EXISTS (
                SELECT FROM procrastinate_deps.job_dependencies AS e
                WHERE e.child_id = d.child_id AND e.parent_id = p.id))
        UNION ALL
        SELECT 'an event is that of a job', e.job_id
        FROM procrastinate_deps.job_events AS e
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = e.job_id)
        UNION ALL
        SELECT 'progress is that of a job', p.job_id
        FROM procrastinate_deps.job_progress AS p
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = p.job_id)
    )
    SELECT DISTINCT invariant, id FROM broken ORDER BY invariant, id
$$;
