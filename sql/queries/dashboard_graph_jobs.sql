-- These jobs, as far as their graph is about them.
SELECT
    job.id,
    job.task_name,
    job.status::text,
    job.created_at,
    job.node,
    job.workflow_id,
    job.run_when::text,
    job.cancel_kind::text,
    job.started_at,
    job.finished_at,
    job.gate::text
FROM procrastinate_deps.jobs AS job
WHERE job.id = ANY($1::bigint[])
ORDER BY job.id
