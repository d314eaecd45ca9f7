-- Which workflows a batch adds jobs to (growing), and which existing jobs depend on the whole of one of them (joins). Locks
-- those that exist, and those that jobs of the batch depend on the whole of, as enter_workflows says.
CREATE FUNCTION procrastinate_deps.workflows_of_batch(
    batch jsonb, new_workflows bigint[], OUT growing bigint[], OUT joins bigint[]
)
LANGUAGE plpgsql
AS $$
DECLARE
    existing bigint[];
    whole bigint[];
    out_of_place bigint[];
    within bigint[];
BEGIN
    SELECT
        coalesce(array_agg(DISTINCT b.workflow_id) FILTER (WHERE b.workflow_id IS NOT NULL), '{}'),
        coalesce(array_agg(DISTINCT coalesce(b.workflow_id, new_workflows[b.workflow + 1])) FILTER (
            WHERE b.workflow_id IS NOT NULL OR b.workflow IS NOT NULL), '{}'),
        array_agg(b.nth - 1) FILTER (
            WHERE new_workflows[b.workflow + 1] IS NULL AND b.workflow IS NOT NULL
                OR EXISTS (SELECT FROM unnest(b.after_workflows) AS a WHERE new_workflows[a + 1] IS NULL))
    INTO existing, growing, out_of_place
    FROM ROWS FROM (jsonb_to_recordset(batch) AS (workflow_id bigint, workflow integer, after_workflows integer[]))
        WITH ORDINALITY AS b (workflow_id, workflow, after_workflows, nth);
    IF out_of_place IS NOT NULL THEN
        RAISE EXCEPTION 'there is no workflow at the position that the jobs at positions % name',
            array_to_string(out_of_place[:20], ', ')
        USING ERRCODE = '22023', HINT = 'Positions count from 0. A workflow that exists is named by workflow_id.';
    END IF;
    whole := ARRAY(
        SELECT DISTINCT w.id
        FROM jsonb_to_recordset(batch) AS b (depends_on_workflows bigint[])
        CROSS JOIN LATERAL unnest(b.depends_on_workflows) AS w (id));
    IF cardinality(existing || whole) > 0 THEN
        PERFORM procrastinate_deps.enter_workflows(existing, whole);
    END IF;
    SELECT array_agg(b.nth - 1) INTO within
    FROM ROWS FROM (jsonb_to_recordset(batch) AS (
        workflow_id bigint, workflow integer, depends_on_workflows bigint[], after_workflows integer[]))
        WITH ORDINALITY AS b (workflow_id, workflow, depends_on_workflows, after_workflows, nth)
    CROSS JOIN LATERAL (
        SELECT w.path FROM procrastinate_deps.workflows AS w
        WHERE w.id = coalesce(b.workflow_id, new_workflows[b.workflow + 1])
        OFFSET 0
    ) AS its
    WHERE coalesce(b.depends_on_workflows, '{}') || ARRAY(SELECT new_workflows[a + 1] FROM unnest(b.after_workflows) AS a)
        && its.path
        AND (cardinality(b.depends_on_workflows) > 0 OR cardinality(b.after_workflows) > 0);
    IF within IS NOT NULL THEN
        RAISE EXCEPTION 'a job can not wait for the whole of a workflow that it belongs to: see the jobs at positions %',
            array_to_string(within[:20], ', ')
        USING ERRCODE = 'PD003', DETAIL = jsonb_build_object('cycle', to_jsonb(within)), HINT = 'Positions count from 0.';
    END IF;
    joins := ARRAY(
        SELECT DISTINCT d.child_id
        FROM procrastinate_deps.workflow_dependents AS d
        WHERE d.workflow_id IN (
            SELECT unnest(w.path) FROM procrastinate_deps.workflows AS w WHERE w.id = ANY (growing)));
END
$$;
