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
    (SELECT count(*) FROM procrastinate_deps.jobs AS job WHERE job.worker_id = worker.id AND job.status = 'doing')
FROM procrastinate_deps.workers AS worker
ORDER BY worker.id
