-- The same for the jobs of a workflow and of those nested in it.
WITH RECURSIVE tree (id) AS (
    SELECT $9::bigint
    UNION
    SELECT workflow.id
    FROM tree
    JOIN procrastinate_deps.workflows AS workflow ON workflow.parent_id = tree.id
)
SELECT job.id
FROM tree
INNER JOIN procrastinate_deps.jobs AS job ON job.workflow_id = tree.id
WHERE
    ($1::text IS NULL OR job.status::text = $1)
    AND ($2::text IS NULL OR job.queue = $2)
    AND ($3::text IS NULL OR job.task_name = $3)
    AND ($4::text IS NULL OR job.lock = $4)
    AND ($5::timestamptz IS NULL OR coalesce(job.finished_at, job.created_at) < $5)
    AND job.id BETWEEN $6::bigint AND $7::bigint
ORDER BY job.id
LIMIT $8::bigint
