SELECT procrastinate_deps.waits_for_ever($1::bigint, $2::timestamptz, $3::bigint, $4::bigint)
