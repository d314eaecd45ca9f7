-- These workflows and all that are nested in them.
CREATE FUNCTION procrastinate_deps.workflow_tree(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN ARRAY(
        WITH RECURSIVE tree (id) AS (
            SELECT w.id FROM procrastinate_deps.workflows AS w WHERE w.id = ANY (ids)
            UNION
            SELECT w.id FROM tree JOIN procrastinate_deps.workflows AS w ON w.parent_id = tree.id
        )
        SELECT id FROM tree ORDER BY id);
END
$$;
