SELECT batch.pruned, batch.reached
FROM procrastinate_deps.prune_jobs(
    make_interval(secs => $1::float8), $2::text[], $3::text, $4::integer, $5::timestamptz, $6::boolean
) AS batch
