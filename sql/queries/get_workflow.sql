WITH running AS MATERIALIZED (
    SELECT count(*) AS doing
    FROM procrastinate_deps.jobs AS job
    JOIN procrastinate_deps.workflows AS workflow ON workflow.id = job.workflow_id
    WHERE job.status = 'doing' AND workflow.path @> ARRAY[$1::bigint]
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
    running.doing,
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
CROSS JOIN running
WHERE state.id = $1::bigint
