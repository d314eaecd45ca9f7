SELECT name FROM procrastinate_deps.prune_workers(make_interval(secs => $1::float8)) AS name
