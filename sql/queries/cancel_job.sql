SELECT procrastinate_deps.cancel_job($1::bigint, $2::boolean, $3::boolean)
