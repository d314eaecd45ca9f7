-- Who has the lock: it is running, or was granted it and has not started.
SELECT lock.job_id, job.status::text
FROM procrastinate_deps.locks AS lock
JOIN procrastinate_deps.jobs AS job ON job.id = lock.job_id
WHERE lock.lock = $1::text
