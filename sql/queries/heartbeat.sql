SELECT procrastinate_deps.heartbeat($1::bigint)
