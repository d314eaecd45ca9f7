-- The edges between these jobs, each by the positions of its ends in ids (from 1), ordered by parent and child.
CREATE FUNCTION procrastinate_deps.edges_among(ids bigint[], OUT parents integer[], OUT children integer[])
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_mergejoin = off
-- arrays have no index, and the planner takes them for small; the look-up per child is a nested loop all the same
SET enable_nestloop = off
SET enable_hashjoin = on
AS $$
BEGIN
    SELECT
        coalesce(array_agg(e.parent ORDER BY e.parent, e.child), '{}'),
        coalesce(array_agg(e.child ORDER BY e.parent, e.child), '{}')
    INTO parents, children
    FROM (
        SELECT p.nth::integer AS parent, c.nth::integer AS child
        FROM unnest(ids) WITH ORDINALITY AS c (id, nth)
        CROSS JOIN LATERAL (
            SELECT x.parent_id FROM procrastinate_deps.job_dependencies AS x WHERE x.child_id = c.id OFFSET 0
        ) AS d
        JOIN unnest(ids) WITH ORDINALITY AS p (id, nth) ON p.id = d.parent_id
    ) AS e;
END
$$;
