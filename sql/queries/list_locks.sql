SELECT
    job.lock,
    count(*) FILTER (WHERE job.status = 'blocked'),
    count(*) FILTER (WHERE job.status = 'todo'),
    count(*) FILTER (WHERE job.status = 'doing'),
    count(*) FILTER (WHERE job.status = 'succeeded'),
    count(*) FILTER (WHERE job.status = 'failed'),
    count(*) FILTER (WHERE job.status = 'cancelled'),
    count(*) FILTER (WHERE job.status = 'aborted')
FROM procrastinate_deps.jobs AS job
WHERE
    job.lock IS NOT NULL
    AND ($1::text IS NULL OR job.queue = $1)
    AND ($2::text IS NULL OR job.task_name = $2)
    AND ($3::text IS NULL OR job.status = $3::procrastinate_deps.job_status)
    AND ($4::text IS NULL OR job.lock = $4)
GROUP BY job.lock
ORDER BY job.lock
