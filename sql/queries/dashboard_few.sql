-- A page of jobs, newest first, of a status that few jobs have: found by that status' own index.
WITH few AS MATERIALIZED (
    SELECT blocked.job_id AS id FROM procrastinate_deps.job_blocks AS blocked WHERE $1::text = 'blocked'
    UNION ALL
    SELECT job.id FROM procrastinate_deps.jobs AS job WHERE $1 = 'todo' AND job.status = 'todo' AND job.gate IS NULL
    UNION ALL
    SELECT job.id
    FROM procrastinate_deps.jobs AS job
    WHERE $1 = 'todo' AND job.status = 'todo' AND job.gate = 'scheduled'
    UNION ALL
    SELECT job.id
    FROM procrastinate_deps.jobs AS job
    WHERE
        $1 = 'todo'
        AND job.status = 'todo' AND job.lock IS NOT NULL AND job.gate IS DISTINCT FROM 'scheduled' AND job.gate = 'lock'
    UNION ALL
    SELECT job.id FROM procrastinate_deps.jobs AS job WHERE $1 = 'doing' AND job.status = 'doing'
    UNION ALL
    SELECT job.id
    FROM procrastinate_deps.jobs AS job
    WHERE
        $1 IN ('succeeded', 'failed', 'cancelled', 'aborted')
        AND job.status = $1::procrastinate_deps.job_status AND job.finished_at IS NOT NULL
)
SELECT
    job.id,
    job.status::text,
    job.queue,
    job.task_name,
    CASE WHEN pg_column_size(job.args) <= 2000 THEN job.args::text END,
    pg_column_size(job.args),
    job.priority,
    job.lock,
    job.attempts,
    job.rescues,
    job.gate::text,
    job.run_when::text,
    job.created_at,
    job.scheduled_at,
    job.ready_at,
    job.started_at,
    job.finished_at,
    job.worker_id,
    job.abort_requested,
    job.cancel_kind::text,
    left(job.cancel_reason, 300),
    CASE WHEN job.status IN ('failed', 'aborted', 'todo') THEN right(job.error, 400) END,
    job.workflow_id,
    job.node,
    progress.done,
    progress.total,
    left(progress.message, 200)
FROM few
INNER JOIN procrastinate_deps.jobs AS job ON job.id = few.id
LEFT JOIN procrastinate_deps.job_progress AS progress
    ON progress.job_id = job.id AND progress.claim = job.claim AND job.status = 'doing'
WHERE
    job.status::text = $1
    AND ($2::text IS NULL OR job.queue = $2)
    AND ($3::text IS NULL OR job.task_name = $3)
    AND ($4::text IS NULL OR job.gate::text = $4 OR ($4 = 'ready' AND job.status = 'todo' AND job.gate IS NULL))
    AND ($5::text[] IS NULL OR job.args #>> $5 = $6::text)
    AND ($7::text IS NULL OR strpos(lower(job.args::text), lower($7)) > 0)
    AND ($8::bigint IS NULL OR job.id < $8)
    AND ($9::bigint IS NULL OR job.id >= $9)
ORDER BY job.id DESC
LIMIT $10::bigint
