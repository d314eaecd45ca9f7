-- Of the jobs that it is doing, ids and tasks of the first 20: a worker may have thousands.
SELECT
    worker.id,
    worker.name,
    worker.hostname,
    worker.pid,
    worker.queues,
    worker.concurrency,
    worker.version,
    worker.started_at,
    worker.heartbeat_at,
    worker.lost_at,
    (SELECT count(*) FROM procrastinate_deps.jobs AS job WHERE job.worker_id = worker.id AND job.status = 'doing'),
    extract(epoch FROM clock_timestamp() - worker.heartbeat_at)::float8,
    running.ids,
    running.task_names
FROM procrastinate_deps.workers AS worker
CROSS JOIN LATERAL (
    SELECT
        array_agg(first.id ORDER BY first.id) AS ids,
        array_agg(first.task_name ORDER BY first.id) AS task_names
    FROM (
        SELECT job.id, job.task_name
        FROM procrastinate_deps.jobs AS job
        WHERE job.worker_id = worker.id AND job.status = 'doing'
        ORDER BY job.id
        LIMIT 20
    ) AS first
) AS running
ORDER BY worker.id
