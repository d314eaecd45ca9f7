-- Every queue that has something to say: jobs that wait or run, a pause, or runs within the last hour. Ready jobs are
-- found queue by queue (a leap over the index of jobs to fetch), what waits otherwise among so many of it at most.
WITH RECURSIVE ready_queues AS (
    (
        SELECT job.queue
        FROM procrastinate_deps.jobs AS job
        WHERE job.status = 'todo' AND job.gate IS NULL
        ORDER BY job.queue
        LIMIT 1
    )
    UNION ALL
    SELECT next_one.queue
    FROM ready_queues AS before
    CROSS JOIN LATERAL (
        SELECT job.queue
        FROM procrastinate_deps.jobs AS job
        WHERE job.status = 'todo' AND job.gate IS NULL AND job.queue > before.queue
        ORDER BY job.queue
        LIMIT 1
    ) AS next_one
),
ready AS (
    SELECT of_queue.queue, few.jobs, few.since
    FROM ready_queues AS of_queue
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, min(capped.since) AS since
        FROM (
            SELECT greatest(coalesce(job.ready_at, job.created_at), job.scheduled_at) AS since
            FROM procrastinate_deps.jobs AS job
            WHERE job.status = 'todo' AND job.gate IS NULL AND job.queue = of_queue.queue
            ORDER BY ~job.priority, job.id
            LIMIT $1::bigint + 1
        ) AS capped
    ) AS few
),
waiting AS (
    SELECT
        job.queue,
        count(*) FILTER (WHERE job.why = 'doing') AS doing,
        count(*) FILTER (WHERE job.why = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE job.why = 'locked') AS locked,
        count(*) FILTER (WHERE job.why = 'blocked') AS blocked
    FROM (
        (SELECT queue, 'doing' AS why FROM procrastinate_deps.jobs WHERE status = 'doing' ORDER BY worker_id LIMIT $1)
        UNION ALL
        (
            SELECT queue, 'scheduled'
            FROM procrastinate_deps.jobs
            WHERE status = 'todo' AND gate = 'scheduled'
            ORDER BY scheduled_at
            LIMIT $1
        )
        UNION ALL
        (
            SELECT queue, 'locked'
            FROM procrastinate_deps.jobs
            WHERE status = 'todo' AND lock IS NOT NULL AND gate IS DISTINCT FROM 'scheduled' AND gate = 'lock'
            ORDER BY lock, priority DESC, id
            LIMIT $1
        )
        UNION ALL
        (
            SELECT blocked.queue, 'blocked'
            FROM (SELECT job_id FROM procrastinate_deps.job_blocks ORDER BY job_id LIMIT $1) AS few
            INNER JOIN procrastinate_deps.jobs AS blocked ON blocked.id = few.job_id
        )
    ) AS job
    GROUP BY job.queue
),
recent AS (
    SELECT
        stat.queue,
        sum(stat.runs)::bigint AS runs,
        coalesce(sum(stat.runs) FILTER (WHERE stat.status IN ('failed', 'todo')), 0)::bigint AS failures,
        sum(stat.wait_sum) AS wait_sum
    FROM procrastinate_deps.job_stats AS stat
    WHERE stat.minute > clock_timestamp() - interval '1 hour' AND stat.queue <> ''
    GROUP BY stat.queue
),
names AS (
    SELECT queue FROM ready
    UNION
    SELECT queue FROM waiting
    UNION
    SELECT queue FROM recent
    UNION
    SELECT queue FROM procrastinate_deps.paused_queues
)
SELECT
    name.queue,
    least(coalesce(ready.jobs, 0), $1),
    coalesce(ready.jobs, 0) > $1,
    ready.since,
    coalesce(waiting.doing, 0),
    coalesce(waiting.scheduled, 0),
    coalesce(waiting.locked, 0),
    coalesce(waiting.blocked, 0),
    paused.paused_at,
    coalesce(recent.runs, 0),
    coalesce(recent.failures, 0),
    CASE WHEN recent.runs > 0 THEN recent.wait_sum / recent.runs END
FROM names AS name
LEFT JOIN ready ON ready.queue = name.queue
LEFT JOIN waiting ON waiting.queue = name.queue
LEFT JOIN recent ON recent.queue = name.queue
LEFT JOIN procrastinate_deps.paused_queues AS paused ON paused.queue = name.queue
ORDER BY name.queue
