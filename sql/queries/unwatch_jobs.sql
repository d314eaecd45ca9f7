SELECT procrastinate_deps.unwatch_jobs($1::bigint[])
