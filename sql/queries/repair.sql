SELECT procrastinate_deps.repair($1::text, $2::bigint[])
