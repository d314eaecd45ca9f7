SELECT swept.reached, swept.repaired::text
FROM procrastinate_deps.sweep_workflows($1::bigint) AS swept
