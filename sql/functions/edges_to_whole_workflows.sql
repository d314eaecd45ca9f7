-- The edges of jobs of a batch that depend on whole workflows: with all jobs that existing ones have now, and with the jobs
-- that the batch adds to existing and new ones.
CREATE FUNCTION procrastinate_deps.edges_to_whole_workflows(batch jsonb, ids bigint[], new_workflows bigint[])
RETURNS TABLE (child integer, parent bigint, existing boolean, misplaced boolean)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN QUERY
    SELECT b.nth::integer, j.id, true, false
    FROM ROWS FROM (jsonb_to_recordset(batch) AS (depends_on_workflows bigint[]))
        WITH ORDINALITY AS b (depends_on_workflows, nth)
    CROSS JOIN LATERAL unnest(b.depends_on_workflows) AS w (id)
    CROSS JOIN LATERAL unnest(procrastinate_deps.workflow_tree(ARRAY[w.id])) AS t (id)
    JOIN procrastinate_deps.jobs AS j ON j.workflow_id = t.id;

    RETURN QUERY
    WITH member AS MATERIALIZED (
        SELECT t.id AS workflow_id, array_agg(m.nth::integer) AS places
        FROM ROWS FROM (jsonb_to_recordset(batch) AS (workflow integer, workflow_id bigint))
            WITH ORDINALITY AS m (workflow, workflow_id, nth)
        JOIN procrastinate_deps.workflows AS w ON w.id = coalesce(m.workflow_id, new_workflows[m.workflow + 1])
        CROSS JOIN LATERAL unnest(w.path) AS t (id)
        GROUP BY t.id
    )
    SELECT b.nth::integer, ids[p.place], false, p.place >= b.nth
    FROM ROWS FROM (jsonb_to_recordset(batch) AS (depends_on_workflows bigint[], after_workflows integer[]))
        WITH ORDINALITY AS b (depends_on_workflows, after_workflows, nth)
    CROSS JOIN LATERAL (
        SELECT unnest(b.depends_on_workflows) AS workflow_id
        UNION ALL
        SELECT new_workflows[a + 1] FROM unnest(b.after_workflows) AS a
    ) AS w
    JOIN member AS m ON m.workflow_id = w.workflow_id
    CROSS JOIN LATERAL unnest(m.places) AS p (place);
END
$$;
