-- What the ends of some jobs mean for their children: one row per child, to be subtracted from its live parents.
CREATE FUNCTION procrastinate_deps.count_ends(ended bigint[])
RETURNS TABLE (child_id bigint, ends integer, succeeded integer, failed integer, cancelled integer, not_needed integer)
LANGUAGE sql STABLE
AS $$
    SELECT
        parent.child_id,
        count(*)::integer,
        count(*) FILTER (WHERE parent.outcome = 'succeeded')::integer,
        count(*) FILTER (WHERE parent.outcome = 'failed')::integer,
        count(*) FILTER (WHERE parent.outcome = 'cancelled')::integer,
        count(*) FILTER (WHERE parent.outcome = 'not_needed')::integer
    FROM (
        SELECT d.child_id, procrastinate_deps.parent_outcome(j.status, j.cancel_kind) AS outcome
        FROM procrastinate_deps.jobs AS j
        -- OFFSET 0 keeps this a look-up per parent: with statistics from before a bulk load all edges were read
        CROSS JOIN LATERAL (
            SELECT e.child_id FROM procrastinate_deps.job_dependencies AS e WHERE e.parent_id = j.id OFFSET 0
        ) AS d
        WHERE j.id = ANY (ended)
    ) AS parent
    GROUP BY parent.child_id
$$;
