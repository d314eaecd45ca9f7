-- Of each invariant the first $1 ids.
SELECT broken.invariant, (array_agg(broken.id ORDER BY broken.id))[1:$1::integer]
FROM procrastinate_deps.broken_invariants() AS broken
GROUP BY broken.invariant
