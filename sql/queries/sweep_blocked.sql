SELECT swept.reached, swept.repaired::text
FROM procrastinate_deps.sweep_blocked($1::bigint) AS swept
