-- Every invariant that is broken, with the number of jobs (or workflows) and the first five: see broken_invariants.
CREATE FUNCTION procrastinate_deps.violations() RETURNS TABLE (invariant text, jobs bigint, examples bigint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT b.invariant, count(*), (array_agg(b.id ORDER BY b.id))[1:5]
    FROM procrastinate_deps.broken_invariants() AS b
    GROUP BY b.invariant
    ORDER BY b.invariant
$$;
