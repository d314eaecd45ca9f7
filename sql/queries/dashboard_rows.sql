-- These jobs, in the order of their ids.
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
FROM procrastinate_deps.jobs AS job
LEFT JOIN procrastinate_deps.job_progress AS progress
    ON progress.job_id = job.id AND progress.claim = job.claim AND job.status = 'doing'
WHERE job.id = ANY($1::bigint[])
ORDER BY job.id
