SELECT procrastinate_deps.forget_periodic_task($1::text, $2::text)
