SELECT procrastinate_deps.prune_job_stats(make_interval(secs => $1::float8), $2::integer)
