SELECT procrastinate_deps.retry_workflow($1::bigint, $2::text)
