SELECT procrastinate_deps.begin_sweep($1::bigint, make_interval(secs => $2::float8))
