-- What prune_jobs would delete.
SELECT count(*)
FROM procrastinate_deps.jobs AS job
WHERE
    job.finished_at < now() - make_interval(secs => $1::float8)
    AND job.status = ANY ($2::text[]::procrastinate_deps.job_status[])
    AND ($3::text IS NULL OR job.queue = $3)
    AND NOT EXISTS (
        SELECT
        FROM procrastinate_deps.job_dependencies AS edge
        JOIN procrastinate_deps.jobs AS child ON child.id = edge.child_id
        WHERE edge.parent_id = job.id AND child.status IN ('blocked', 'todo', 'doing')
    )
