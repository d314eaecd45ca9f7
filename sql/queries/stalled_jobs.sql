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
LEFT JOIN procrastinate_deps.workers AS worker ON worker.id = job.worker_id
WHERE
    job.status = 'doing'
    -- a worker that is not known any more, or was declared lost, gives no sign of life either
    AND (worker.heartbeat_at >= now() - make_interval(secs => $1::float8) AND worker.lost_at IS NULL) IS NOT TRUE
    AND ($2::text IS NULL OR job.queue = $2)
    AND ($3::text IS NULL OR job.task_name = $3)
ORDER BY job.id
