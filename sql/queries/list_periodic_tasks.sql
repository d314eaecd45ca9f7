SELECT
    periodic.task_name,
    periodic.periodic_id,
    periodic.cron,
    periodic.timezone,
    periodic.job ->> 'queue',
    periodic.registered_at,
    periodic.last_timestamp,
    periodic.last_deferred_at,
    periodic.last_job_id,
    (SELECT job.status::text FROM procrastinate_deps.jobs AS job WHERE job.id = periodic.last_job_id),
    extract(epoch FROM clock_timestamp())::float8
FROM procrastinate_deps.periodic_tasks AS periodic
ORDER BY periodic.task_name, periodic.periodic_id
