-- These jobs, where they are live, and all live jobs that they wait for, through all levels, nearest first; at most
-- max_jobs. Only who is blocked waits: a live parent of a job that runs is passed by.
CREATE FUNCTION procrastinate_deps.unfinished_ancestors(ids bigint[], max_jobs integer) RETURNS bigint[]
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    -- the recursion is not ordered or counted first: so it ends with the LIMIT
    RETURN ARRAY(
        WITH RECURSIVE ancestors (id, blocked) AS (
            SELECT j.id, j.status = 'blocked'
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = ANY (ids) AND (j.status IN ('blocked', 'todo', 'doing')) IS TRUE
            UNION
            SELECT p.id, p.status = 'blocked'
            FROM ancestors
            -- OFFSET 0: a look-up per child, see count_ends
            CROSS JOIN LATERAL (
                SELECT e.parent_id FROM procrastinate_deps.job_dependencies AS e
                WHERE e.child_id = ancestors.id OFFSET 0
            ) AS d
            JOIN procrastinate_deps.jobs AS p ON p.id = ANY (ARRAY[d.parent_id])
            WHERE ancestors.blocked AND (p.status IN ('blocked', 'todo', 'doing')) IS TRUE
        )
        SELECT id FROM ancestors LIMIT max_jobs);
END
$$;
