-- May a dependent go back to blocked when a parent of it is retried? Not once it was claimed, ended, cancelled by hand
-- or told to ignore its dependencies.
CREATE FUNCTION procrastinate_deps.resettable(job procrastinate_deps.jobs) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT job.status = 'blocked'
        OR (job.status = 'todo' AND job.started_at IS NULL AND NOT job.ignores_dependencies)
        OR (job.status = 'cancelled' AND job.cancel_kind <> 'manual')
$$;
