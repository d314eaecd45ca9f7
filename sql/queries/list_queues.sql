-- A paused queue without jobs is a queue too, as long as it isn't asked for jobs of a kind.
SELECT
    coalesce(counted.queue, paused.queue),
    coalesce(counted.blocked, 0),
    coalesce(counted.todo, 0),
    coalesce(counted.doing, 0),
    coalesce(counted.succeeded, 0),
    coalesce(counted.failed, 0),
    coalesce(counted.cancelled, 0),
    coalesce(counted.aborted, 0),
    paused.queue IS NOT NULL
FROM (
    SELECT
        job.queue,
        count(*) FILTER (WHERE job.status = 'blocked') AS blocked,
        count(*) FILTER (WHERE job.status = 'todo') AS todo,
        count(*) FILTER (WHERE job.status = 'doing') AS doing,
        count(*) FILTER (WHERE job.status = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE job.status = 'failed') AS failed,
        count(*) FILTER (WHERE job.status = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE job.status = 'aborted') AS aborted
    FROM procrastinate_deps.jobs AS job
    WHERE
        ($1::text IS NULL OR job.queue = $1)
        AND ($2::text IS NULL OR job.task_name = $2)
        AND ($3::text IS NULL OR job.status = $3::procrastinate_deps.job_status)
        AND ($4::text IS NULL OR job.lock = $4)
    GROUP BY job.queue
) AS counted
FULL JOIN procrastinate_deps.paused_queues AS paused ON paused.queue = counted.queue
WHERE
    ($1::text IS NULL OR coalesce(counted.queue, paused.queue) = $1)
    AND (counted.queue IS NOT NULL OR ($2::text IS NULL AND $3::text IS NULL AND $4::text IS NULL))
ORDER BY 1
