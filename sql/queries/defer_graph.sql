SELECT deferred.workflow_ids, deferred.job_ids
FROM procrastinate_deps.defer_graph($1::text::jsonb, $2::text::jsonb) AS deferred
