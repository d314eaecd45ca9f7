SELECT
    refusal.job_id AS id,
    NULL::bigint AS claim,
    NULL::text AS queue,
    NULL::text AS task_name,
    NULL::text AS args,
    NULL::integer AS priority,
    NULL::text AS lock,
    NULL::text AS queueing_lock,
    NULL::integer AS attempts,
    NULL::integer AS rescues,
    NULL::text AS run_when,
    NULL::boolean AS abort_requested,
    NULL::boolean AS ignores_dependencies,
    NULL::timestamptz AS created_at,
    NULL::timestamptz AS scheduled_at,
    NULL::timestamptz AS ready_at,
    NULL::timestamptz AS started_at,
    NULL::text AS error,
    NULL::bigint AS workflow_id,
    NULL::text AS node,
    refusal.refused
FROM procrastinate_deps.finish_jobs(
    $1::bigint[], $2::bigint[], $3::text[], $4::text[]::jsonb[], $5::text[], $6::text::jsonb, $7::text, 100, true
) AS refusal
UNION ALL
SELECT
    job.id,
    job.claim,
    job.queue,
    job.task_name,
    job.args::text,
    job.priority,
    job.lock,
    job.queueing_lock,
    job.attempts,
    job.rescues,
    job.run_when::text,
    job.abort_requested,
    job.ignores_dependencies,
    job.created_at,
    job.scheduled_at,
    job.ready_at,
    job.started_at,
    job.error,
    job.workflow_id,
    job.node,
    NULL
FROM procrastinate_deps.fetch_jobs($8::text[], $9::bigint, $10::integer, true) AS job
UNION ALL
SELECT
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'left'
WHERE current_setting('procrastinate_deps_internal.left', true) = 'yes'
