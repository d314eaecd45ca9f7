SELECT procrastinate_deps.fold_workflows($1::bigint[], $2::integer)
