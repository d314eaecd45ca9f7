SELECT procrastinate_deps.add_job_stats($1::bigint, $2::bigint, make_interval(secs => $3::float8), $4::text::jsonb)
