SELECT
    job.id,
    job.claim,
    job.status::text,
    job.queue,
    job.task_name,
    job.args::text,
    job.priority,
    job.lock,
    job.queueing_lock,
    job.attempts,
    job.rescues,
    job.run_when::text,
    job.gate::text,
    job.worker_id,
    job.abort_requested,
    job.ignores_dependencies,
    job.created_at,
    job.scheduled_at,
    job.ready_at,
    job.started_at,
    job.finished_at,
    job.result::text,
    job.error,
    job.cancel_kind::text,
    job.cancel_reason,
    job.workflow_id,
    job.node,
    progress.done,
    progress.total,
    progress.message,
    progress.updated_at
FROM procrastinate_deps.jobs AS job
LEFT JOIN procrastinate_deps.job_progress AS progress
    ON progress.job_id = job.id AND progress.claim = job.claim AND job.status NOT IN ('blocked', 'todo')
WHERE
    ($1::bigint IS NULL OR job.id = $1)
    AND ($2::text IS NULL OR job.queue = $2)
    AND ($3::text IS NULL OR job.task_name = $3)
    AND ($4::text IS NULL OR job.status = $4::procrastinate_deps.job_status)
    AND ($5::text IS NULL OR job.lock = $5)
    AND ($6::text IS NULL OR job.queueing_lock = $6)
    AND ($7::bigint IS NULL OR job.worker_id = $7)
    AND ($8::bigint IS NULL OR job.id > $8)
ORDER BY job.id
LIMIT $9::bigint
