WITH running AS MATERIALIZED (
    SELECT place.id, count(*) AS doing
    FROM procrastinate_deps.jobs AS job
    JOIN procrastinate_deps.workflows AS workflow ON workflow.id = job.workflow_id
    CROSS JOIN LATERAL unnest(workflow.path) AS place (id)
    WHERE job.status = 'doing'
    GROUP BY place.id
)
SELECT
    state.id,
    state.name,
    state.parent_id,
    state.path,
    state.metadata::text,
    state.is_unique,
    state.status,
    state.total::bigint,
    state.blocked::bigint,
    coalesce((SELECT running.doing FROM running WHERE running.id = state.id), 0),
    state.succeeded::bigint,
    state.failed::bigint,
    state.aborted::bigint,
    state.cancelled::bigint,
    state.upstream::bigint,
    state.not_needed::bigint,
    state.created_at,
    state.started_at,
    state.finished_at,
    state.cancel_requested_at IS NOT NULL
FROM procrastinate_deps.workflow_states AS state
WHERE
    ($1::text IS NULL OR state.name = $1)
    AND ($2::text IS NULL OR state.status = $2)
    AND ($3::bigint IS NULL OR state.parent_id = $3)
    AND (NOT $4::boolean OR state.parent_id IS NULL)
    AND ($5::bigint IS NULL OR state.id < $5)
ORDER BY state.id DESC
LIMIT $6::bigint
