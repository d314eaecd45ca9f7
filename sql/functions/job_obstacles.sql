-- What keeps these live jobs from starting (or, of a running one, who runs it), in the order of a job's gates: a JSON
-- array of objects with kind (parents, schedule, retry, paused, lock, worker, slot, running) and what belongs to it.
-- slot: nothing is in the way but that the workers have other things to do. Counts of a line end at max_ahead.
CREATE FUNCTION procrastinate_deps.job_obstacles(ids bigint[], max_ahead integer DEFAULT 1000)
RETURNS TABLE (job_id bigint, obstacles jsonb)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY
    SELECT
        j.id,
        (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(g.gate) ORDER BY g.nth), '[]')
         FROM (VALUES
            (1, CASE WHEN j.status = 'blocked' THEN jsonb_build_object(
                'kind', 'parents', 'live', coalesce(b.live, 0)) END),
            (2, CASE WHEN later.yes THEN jsonb_build_object(
                'kind', CASE WHEN j.started_at IS NULL THEN 'schedule' ELSE 'retry' END, 'until', j.scheduled_at,
                'attempt', j.attempts + 1) END),
            (3, CASE WHEN p.queue IS NOT NULL THEN jsonb_build_object(
                'kind', 'paused', 'queue', j.queue, 'since', p.paused_at) END),
            (4, CASE WHEN j.status = 'todo' AND NOT later.yes AND (l.job_id <> j.id OR j.gate = 'lock') THEN
                jsonb_build_object(
                    'kind', 'lock', 'lock', j.lock, 'holder', holder.id, 'holder_status', holder.status,
                    'holder_task', holder.task_name, 'ahead', CASE WHEN p.queue IS NULL THEN (
                        SELECT count(*) FROM (
                            SELECT FROM procrastinate_deps.jobs AS o
                            WHERE o.status = 'todo' AND o.lock = j.lock AND o.gate IS DISTINCT FROM 'scheduled'
                                AND (o.priority > j.priority OR (o.priority = j.priority AND o.id < j.id))
                                AND o.id IS DISTINCT FROM l.job_id AND NOT EXISTS (
                                    SELECT FROM procrastinate_deps.paused_queues AS q WHERE q.queue = o.queue)
                            LIMIT max_ahead) AS line) END) END),
            (5, CASE WHEN j.status <> 'doing' AND serving.workers = 0 THEN jsonb_build_object(
                'kind', 'worker', 'queue', j.queue) END),
            (6, CASE WHEN j.status = 'todo' AND NOT later.yes AND p.queue IS NULL AND j.gate IS NULL
                AND coalesce(l.job_id = j.id, true) AND serving.workers > 0 THEN jsonb_build_object(
                'kind', 'slot', 'queue', j.queue, 'workers', serving.workers, 'slots', serving.slots, 'ahead', (
                    SELECT count(*) FROM (
                        SELECT FROM procrastinate_deps.jobs AS o
                        WHERE o.status = 'todo' AND o.gate IS NULL AND o.queue = j.queue
                            AND (~o.priority, o.id) < (~j.priority, j.id)
                        LIMIT max_ahead) AS line)) END),
            (7, CASE WHEN j.status = 'doing' THEN jsonb_build_object(
                'kind', 'running', 'since', j.started_at, 'attempt', j.attempts + 1,
                'abort_requested', j.abort_requested, 'worker_id', j.worker_id, 'worker', w.name,
                'hostname', w.hostname, 'pid', w.pid,
                'heartbeat_age_s', round(extract(epoch FROM statement_timestamp() - w.heartbeat_at), 1),
                'live', coalesce(w.lost_at IS NULL AND w.heartbeat_at > statement_timestamp() - interval '30 s', false),
                'progress', CASE WHEN r.job_id IS NOT NULL THEN
                    jsonb_build_object('done', r.done, 'total', r.total, 'message', r.message) END)
                END)
         ) AS g (nth, gate)
         WHERE g.gate IS NOT NULL)
    FROM procrastinate_deps.jobs AS j
    LEFT JOIN procrastinate_deps.job_blocks AS b ON b.job_id = j.id
    LEFT JOIN procrastinate_deps.paused_queues AS p ON p.queue = j.queue AND j.status <> 'doing'
    LEFT JOIN procrastinate_deps.locks AS l ON l.lock = j.lock
    LEFT JOIN procrastinate_deps.jobs AS holder ON holder.id = l.job_id AND holder.id <> j.id
    LEFT JOIN procrastinate_deps.workers AS w ON w.id = j.worker_id
    LEFT JOIN procrastinate_deps.job_progress AS r ON r.job_id = j.id AND r.claim = j.claim
    CROSS JOIN LATERAL (
        SELECT coalesce(j.status IN ('blocked', 'todo') AND j.scheduled_at > statement_timestamp(), false) AS yes
    ) AS later
    CROSS JOIN LATERAL (
        SELECT count(*) AS workers, coalesce(sum(v.concurrency), 0) AS slots
        FROM procrastinate_deps.workers AS v
        WHERE v.lost_at IS NULL AND v.heartbeat_at > statement_timestamp() - interval '30 s'
            AND (v.queues IS NULL OR j.queue = ANY (v.queues))
    ) AS serving
    WHERE j.id = ANY (ids) AND (j.status IN ('blocked', 'todo', 'doing')) IS TRUE
    ORDER BY j.id;
END
$$;
