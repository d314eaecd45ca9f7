SELECT refusal.job_id, refusal.refused
FROM procrastinate_deps.finish_jobs(
    $1::bigint[], $2::bigint[], $3::text[], $4::text[]::jsonb[], $5::text[], $6::text::jsonb, $7::text) AS refusal
