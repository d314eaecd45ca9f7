-- Jobs that were just inserted, some of them blocked, in the counts of their workflows. What a trigger of a user's own has
-- made of them meanwhile is counted where it is observed.
CREATE FUNCTION procrastinate_deps.count_new_jobs(ids bigint[], blocked bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_deps.workflow_deltas (workflow_id, total, blocked)
    SELECT p.id, sum(c.total), sum(c.blocked)
    FROM (
        SELECT
            j.workflow_id, count(*) AS total,
            count(*) FILTER (WHERE j.id IN (SELECT unnest(count_new_jobs.blocked))) AS blocked
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (ids) AND j.workflow_id IS NOT NULL
        GROUP BY j.workflow_id
    ) AS c
    CROSS JOIN LATERAL (
        SELECT w.path FROM procrastinate_deps.workflows AS w WHERE w.id = c.workflow_id OFFSET 0
    ) AS leaf
    CROSS JOIN LATERAL unnest(leaf.path) AS p (id)
    GROUP BY p.id;
END
$$;
