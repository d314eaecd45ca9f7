SELECT job_id, outcome, reason
FROM procrastinate_deps.retry_jobs(
    $1::bigint[], $2::timestamptz, $3::integer, $4::text, $5::text, $6::boolean, $7::boolean,
    make_interval(secs => $8::float8))
