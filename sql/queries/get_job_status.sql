SELECT job.status::text FROM procrastinate_deps.jobs AS job WHERE job.id = $1::bigint
