-- The same for a status of live jobs: found by that status' own index.
WITH few AS MATERIALIZED (
    SELECT blocked.job_id AS id FROM procrastinate_deps.job_blocks AS blocked WHERE $1::text = 'blocked'
    UNION ALL
    SELECT job.id FROM procrastinate_deps.jobs AS job WHERE $1 = 'todo' AND job.status = 'todo' AND job.gate IS NULL
    UNION ALL
    SELECT job.id
    FROM procrastinate_deps.jobs AS job
    WHERE $1 = 'todo' AND job.status = 'todo' AND job.gate = 'scheduled'
    UNION ALL
    SELECT job.id
    FROM procrastinate_deps.jobs AS job
    WHERE
        $1 = 'todo'
        AND job.status = 'todo' AND job.lock IS NOT NULL AND job.gate IS DISTINCT FROM 'scheduled' AND job.gate = 'lock'
    UNION ALL
    SELECT job.id FROM procrastinate_deps.jobs AS job WHERE $1 = 'doing' AND job.status = 'doing'
)
SELECT job.id
FROM few
INNER JOIN procrastinate_deps.jobs AS job ON job.id = few.id
WHERE
    job.status::text = $1
    AND ($2::text IS NULL OR job.queue = $2)
    AND ($3::text IS NULL OR job.task_name = $3)
    AND ($4::text IS NULL OR job.lock = $4)
    AND ($5::timestamptz IS NULL OR coalesce(job.finished_at, job.created_at) < $5)
    AND job.id BETWEEN $6::bigint AND $7::bigint
ORDER BY job.id
LIMIT $8::bigint
