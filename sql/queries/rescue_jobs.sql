SELECT rescued.job_id, rescued.status
FROM procrastinate_deps.rescue_jobs(make_interval(secs => $1::float8), $2::integer, $3::integer) AS rescued
