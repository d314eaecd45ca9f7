SELECT procrastinate_deps.add_dependencies($1::bigint, $2::bigint[])
