SELECT procrastinate_deps.defer_job(
    $1::text, $2::text, $3::text::integer, $4::text, $5::text, $6::text::jsonb, $7::text::timestamptz, $8::text)
