SELECT task_name, periodic_id, last_timestamp, clock
FROM procrastinate_deps.register_periodic_tasks($1::text::jsonb)
