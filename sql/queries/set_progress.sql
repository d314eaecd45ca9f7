SELECT busy
FROM procrastinate_deps.set_progress($1::bigint[], $2::bigint[], $3::float8[], $4::float8[], $5::text[]) AS busy
