-- What the ends of some jobs mean for their children: one row per child, to be subtracted from its live parents.
CREATE FUNCTION procrastinate_deps.count_ends(ended bigint[])
RETURNS TABLE (child_id bigint, ends integer, succeeded integer, failed integer, cancelled integer, not_needed integer)
LANGUAGE sql STABLE
AS $$
    SELECT
        edge.child_id,
        count(*)::integer,
        count(*) FILTER (WHERE parent.succeeded)::integer,
        count(*) FILTER (WHERE parent.failed)::integer,
        count(*) FILTER (WHERE parent.cancelled)::integer,
        count(*) FILTER (WHERE parent.not_needed)::integer
    FROM (
        SELECT
            o.id,
            o.outcome = 'succeeded' AS succeeded,
            o.outcome = 'failed' AS failed,
            o.outcome = 'cancelled' AS cancelled,
            o.outcome = 'not_needed' AS not_needed
        FROM (
            SELECT j.id, procrastinate_deps.parent_outcome(j.status, j.cancel_kind) AS outcome
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = ANY (ended)
        ) AS o
        -- OFFSET 0: once per parent, not once per edge
        OFFSET 0
    ) AS parent
    -- OFFSET 0 keeps this a look-up per parent: with statistics from before a bulk load all edges were read
    CROSS JOIN LATERAL (
        SELECT e.child_id FROM procrastinate_deps.job_dependencies AS e WHERE e.parent_id = parent.id OFFSET 0
    ) AS edge
    GROUP BY edge.child_id
$$;
