SELECT procrastinate_deps.delete_workflow($1::bigint)
