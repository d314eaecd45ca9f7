SELECT procrastinate_deps.explain_job($1::bigint, $2::integer)::text
