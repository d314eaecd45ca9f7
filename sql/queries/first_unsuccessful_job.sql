-- What came first stands first: a cancellation by a rule follows from a failure.
WITH RECURSIVE inside (id) AS (
    SELECT $1::bigint
    UNION
    SELECT nested.id
    FROM inside
    JOIN procrastinate_deps.workflows AS nested ON nested.parent_id = inside.id
)
SELECT
    job.id,
    job.status::text,
    job.task_name,
    NULL,
    job.error,
    job.cancel_kind::text,
    job.cancel_reason
FROM inside
JOIN procrastinate_deps.jobs AS job ON job.workflow_id = inside.id
WHERE job.status IN ('failed', 'aborted', 'cancelled') AND job.cancel_kind IS DISTINCT FROM 'not_needed'
ORDER BY
    array_position(ARRAY['failed', 'aborted', 'cancelled'], job.status::text),
    job.cancel_kind = 'manual' NULLS FIRST,
    job.finished_at,
    job.id
LIMIT 1
