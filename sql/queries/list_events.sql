SELECT event.id, event.job_id, event.at, event.type, event.attempt, event.worker_id, event.detail::text
FROM procrastinate_deps.job_events AS event
WHERE event.job_id = $1::bigint
ORDER BY event.id
