SELECT procrastinate_deps.remove_dependencies($1::bigint, $2::bigint[])
