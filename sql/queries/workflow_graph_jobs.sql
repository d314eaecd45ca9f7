-- What the graph of a workflow, and of those nested in it, is about: its jobs, by id.
WITH RECURSIVE nested AS (
    SELECT workflow.id FROM procrastinate_deps.workflows AS workflow WHERE workflow.id = $1::bigint
    UNION ALL
    SELECT workflow.id
    FROM nested
    INNER JOIN procrastinate_deps.workflows AS workflow ON workflow.parent_id = nested.id
)
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
    job.finished_at
FROM nested
INNER JOIN procrastinate_deps.jobs AS job ON job.workflow_id = nested.id
ORDER BY job.id
