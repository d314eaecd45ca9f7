SELECT procrastinate_deps.pause_queue($1::text)
