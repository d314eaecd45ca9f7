SELECT watched.job_id, watched.wait_id
FROM procrastinate_deps.watch_jobs($1::bigint[], make_interval(secs => $2::float8)) AS watched
