SELECT done.cancelled, done.abort_requested
FROM procrastinate_deps.cancel_workflow($1::bigint, $2::boolean) AS done
