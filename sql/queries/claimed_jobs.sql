SELECT j.id, j.claim
FROM procrastinate_deps.jobs AS j
WHERE j.status = 'doing' AND j.worker_id = $1::bigint
