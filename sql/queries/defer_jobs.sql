SELECT procrastinate_deps.defer_jobs($1::text::jsonb)
