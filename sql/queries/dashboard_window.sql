-- Where so many jobs end, counted down from an id.
SELECT min(job.id)
FROM (
    SELECT id
    FROM procrastinate_deps.jobs
    WHERE $1::bigint IS NULL OR id < $1
    ORDER BY id DESC
    LIMIT $2::bigint
) AS job
