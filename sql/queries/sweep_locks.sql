SELECT swept.reached, swept.repaired::text
FROM procrastinate_deps.sweep_locks($1::text) AS swept
