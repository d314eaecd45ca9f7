WITH RECURSIVE tree (id) AS (
    SELECT $10::bigint
    UNION
    SELECT workflow.id
    FROM tree
    JOIN procrastinate_deps.workflows AS workflow ON workflow.parent_id = tree.id
)
SELECT
    job.id,
    job.claim,
    job.status::text,
    job.queue,
    job.task_name,
    job.args::text,
    job.priority,
    job.lock,
    job.queueing_lock,
    job.attempts,
    job.rescues,
    job.run_when::text,
    job.gate::text,
    job.worker_id,
    job.abort_requested,
    job.ignores_dependencies,
    job.created_at,
    job.scheduled_at,
    job.ready_at,
    job.started_at,
    job.finished_at,
    job.result::text,
    job.error,
    job.cancel_kind::text,
    job.cancel_reason,
    job.workflow_id,
    job.node,
    progress.done,
    progress.total,
    progress.message,
    progress.updated_at
FROM tree
-- of each workflow no more than one page is read
CROSS JOIN LATERAL (
    SELECT member.*
    FROM procrastinate_deps.jobs AS member
    WHERE
        member.workflow_id = tree.id
        AND ($1::bigint IS NULL OR member.id = $1)
        AND ($2::text IS NULL OR member.queue = $2)
        AND ($3::text IS NULL OR member.task_name = $3)
        AND ($4::text IS NULL OR member.status = $4::procrastinate_deps.job_status)
        AND ($5::text IS NULL OR member.lock = $5)
        AND ($6::text IS NULL OR member.queueing_lock = $6)
        AND ($7::bigint IS NULL OR member.worker_id = $7)
        AND ($8::bigint IS NULL OR member.id > $8)
    ORDER BY member.id
    LIMIT $9::bigint
) AS job
LEFT JOIN procrastinate_deps.job_progress AS progress
    ON progress.job_id = job.id AND progress.claim = job.claim AND job.status NOT IN ('blocked', 'todo')
ORDER BY job.id
LIMIT $9::bigint
