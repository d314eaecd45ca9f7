SELECT job_id, outcome, reason FROM procrastinate_deps.cancel_jobs($1::bigint[], $2::boolean)
