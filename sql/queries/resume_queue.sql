SELECT procrastinate_deps.resume_queue($1::text)
