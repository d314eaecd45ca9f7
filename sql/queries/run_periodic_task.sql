SELECT procrastinate_deps.run_periodic_task($1::text, $2::text)
