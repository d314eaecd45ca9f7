SELECT
    job.id,
    job.status::text,
    job.queue,
    job.task_name,
    job.attempts,
    job.finished_at,
    right(job.error, 400),
    CASE WHEN pg_column_size(job.args) <= 2000 THEN job.args::text END
FROM procrastinate_deps.jobs AS job
WHERE job.status = 'failed' AND job.finished_at IS NOT NULL
ORDER BY job.finished_at DESC
LIMIT $1::bigint
