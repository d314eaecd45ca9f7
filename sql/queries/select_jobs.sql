-- Ids of jobs, in order, of all or of those that have ended in one way. Planned for its values: a status that many jobs
-- have is found on the way through the primary key, one that few have by the index of what has ended.
SELECT job.id
FROM procrastinate_deps.jobs AS job
WHERE
    (
        $1::text IS NULL
        OR (job.status = $1::procrastinate_deps.job_status AND job.finished_at IS NOT NULL)
    )
    AND ($2::text IS NULL OR job.queue = $2)
    AND ($3::text IS NULL OR job.task_name = $3)
    AND ($4::text IS NULL OR job.lock = $4)
    AND ($5::timestamptz IS NULL OR coalesce(job.finished_at, job.created_at) < $5)
    AND job.id BETWEEN $6::bigint AND $7::bigint
ORDER BY job.id
LIMIT $8::bigint
