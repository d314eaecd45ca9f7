-- The truth about the parents of some jobs, from the edges and from the records of deleted parents.
CREATE FUNCTION procrastinate_deps.count_parents(ids bigint[])
RETURNS TABLE (job_id bigint, live integer, succeeded integer, failed integer, cancelled integer, not_needed integer)
LANGUAGE sql STABLE
AS $$
    SELECT
        child.id,
        count(*) FILTER (WHERE parent.outcome = 'live')::integer,
        count(*) FILTER (WHERE parent.outcome = 'succeeded')::integer,
        count(*) FILTER (WHERE parent.outcome = 'failed')::integer,
        count(*) FILTER (WHERE parent.outcome = 'cancelled')::integer,
        count(*) FILTER (WHERE parent.outcome = 'not_needed')::integer
    FROM unnest(ids) AS child (id)
    LEFT JOIN LATERAL (
        SELECT procrastinate_deps.parent_outcome(j.status, j.cancel_kind) AS outcome
        FROM procrastinate_deps.job_dependencies AS d
        -- OFFSET 0: look-ups, see count_ends
        CROSS JOIN LATERAL (
            SELECT p.status, p.cancel_kind FROM procrastinate_deps.jobs AS p WHERE p.id = d.parent_id OFFSET 0
        ) AS j
        WHERE d.child_id = child.id
        UNION ALL
        SELECT procrastinate_deps.parent_outcome(x.status, x.cancel_kind)
        FROM procrastinate_deps.deleted_parents AS x
        WHERE x.child_id = child.id
    ) AS parent ON true
    GROUP BY child.id
$$;
