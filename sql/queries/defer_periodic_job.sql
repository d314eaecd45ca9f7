SELECT outcome, job_id, clock FROM procrastinate_deps.defer_periodic_job($1::text::jsonb, $2::bigint)
