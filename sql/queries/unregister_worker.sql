SELECT procrastinate_deps.unregister_worker($1::bigint)
