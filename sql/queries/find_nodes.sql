SELECT
    job.node,
    job.id
FROM procrastinate_deps.jobs AS job
WHERE job.workflow_id = $1::bigint AND job.node = ANY ($2::text[])
