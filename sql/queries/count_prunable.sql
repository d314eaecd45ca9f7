-- What prune_jobs would delete: jobs without a workflow, and workflows as a whole.
SELECT (
    SELECT count(*)
    FROM (
        SELECT 1
        FROM procrastinate_deps.jobs AS job
        WHERE
            job.finished_at < now() - make_interval(secs => $1::float8)
            AND job.status = ANY ($2::text[]::procrastinate_deps.job_status[])
            AND ($3::text IS NULL OR job.queue = $3)
            AND job.workflow_id IS NULL
            AND NOT EXISTS (
                SELECT
                FROM procrastinate_deps.job_dependencies AS edge
                JOIN procrastinate_deps.jobs AS child ON child.id = edge.child_id
                WHERE edge.parent_id = job.id AND child.status IN ('blocked', 'todo', 'doing')
            )
        LIMIT $4::bigint
    ) AS counted
) + (
    SELECT coalesce(sum(state.total), 0)::bigint
    FROM procrastinate_deps.workflow_states AS state
    WHERE
        $3::text IS NULL
        AND state.parent_id IS NULL
        AND state.ended = state.total
        AND state.finished_at < now() - make_interval(secs => $1::float8)
        AND (state.pruned_at IS NOT NULL OR (
            (state.succeeded = 0 OR 'succeeded' = ANY ($2::text[]))
            AND (state.failed = 0 OR 'failed' = ANY ($2::text[]))
            AND (state.aborted = 0 OR 'aborted' = ANY ($2::text[]))
            AND (state.cancelled + state.upstream + state.not_needed = 0 OR 'cancelled' = ANY ($2::text[]))
        ))
        AND NOT EXISTS (
            SELECT
            FROM procrastinate_deps.workflows AS part
            JOIN procrastinate_deps.jobs AS job ON job.workflow_id = part.id
            JOIN procrastinate_deps.job_dependencies AS edge ON edge.parent_id = job.id
            JOIN procrastinate_deps.jobs AS child ON child.id = edge.child_id
            WHERE part.path @> ARRAY[state.id] AND child.status IN ('blocked', 'todo', 'doing')
        )
)
