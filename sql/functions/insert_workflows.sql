-- The workflows of defer_graph, without jobs. A unique one whose name a live one has is refused; of two sessions that make
-- one at the same moment the second waits for the first at the unique index.
CREATE FUNCTION procrastinate_deps.insert_workflows(workflows jsonb) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    ids_from regclass := format('%I.%I', 'procrastinate_deps', 'workflows_id_seq')::regclass;
    ids bigint[] := ARRAY(SELECT nextval(ids_from) FROM generate_series(1, jsonb_array_length(workflows)));
    parents bigint[];
    upward bigint[];
    each record;
BEGIN
    parents := ARRAY(
        SELECT DISTINCT w.parent_id FROM jsonb_to_recordset(workflows) AS w (parent_id bigint)
        WHERE w.parent_id IS NOT NULL);
    IF cardinality(parents) > 0 THEN
        PERFORM procrastinate_deps.enter_workflows(parents);
    END IF;
    FOR each IN
        SELECT *
        FROM ROWS FROM (jsonb_to_recordset(workflows) AS (
            name text, metadata jsonb, "unique" boolean, parent integer, parent_id bigint))
            WITH ORDINALITY AS w (name, metadata, "unique", parent, parent_id, nth)
    LOOP
        IF each.parent < 0 OR each.parent >= each.nth - 1 THEN
            RAISE EXCEPTION 'the workflow at position % is nested in the one at %, which does not come before it',
                each.nth - 1, each.parent
            USING ERRCODE = '22023', HINT = 'Positions count from 0. One that exists is named by parent_id.';
        END IF;
        SELECT w.path INTO upward
        FROM procrastinate_deps.workflows AS w
        WHERE w.id = coalesce(each.parent_id, ids[each.parent + 1]);
        INSERT INTO procrastinate_deps.workflows (id, parent_id, path, name, metadata, is_unique)
        VALUES (ids[each.nth], coalesce(each.parent_id, ids[each.parent + 1]), coalesce(upward, '{}') || ids[each.nth],
            each.name, coalesce(each.metadata, '{}'), coalesce(each."unique", false));
        IF each."unique" THEN
            PERFORM procrastinate_deps.take_workflow_name(ids[each.nth], each.name);
        END IF;
    END LOOP;
    RETURN ids;
END
$$;
