SELECT id FROM procrastinate_deps.jobs_to_abort($1::bigint) AS id
