-- What runs, longest first, and how much of it there is: of all, or of a workflow and those nested in it.
SELECT
    job.id,
    job.task_name,
    job.queue,
    job.node,
    job.workflow_id,
    job.worker_id,
    job.attempts,
    job.abort_requested,
    job.started_at,
    extract(epoch FROM clock_timestamp() - job.started_at)::float8,
    progress.done,
    progress.total,
    left(progress.message, 200),
    count(*) OVER ()
FROM procrastinate_deps.jobs AS job
LEFT JOIN procrastinate_deps.job_progress AS progress ON progress.job_id = job.id AND progress.claim = job.claim
WHERE
    job.status = 'doing'
    AND ($1::bigint IS NULL OR job.workflow_id IN (
        SELECT workflow.id FROM procrastinate_deps.workflows AS workflow WHERE workflow.path @> ARRAY[$1]))
ORDER BY job.started_at, job.id
LIMIT $2::bigint
