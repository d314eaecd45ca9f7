SELECT
    job.id,
    job.status::text,
    job.task_name,
    job.result::text,
    job.error,
    job.cancel_kind::text,
    job.cancel_reason
FROM procrastinate_deps.jobs AS job
WHERE job.id = ANY ($1::bigint[])
