-- Unique workflows that are live and do not have their name: they get it, where no other one has it.
CREATE FUNCTION procrastinate_deps.repair_workflow_names(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    repaired bigint[];
    each record;
BEGIN
    FOR each IN
        SELECT w.id, w.name
        FROM procrastinate_deps.workflows AS w
        WHERE w.id = ANY (ids) AND w.is_unique
        ORDER BY w.id
        FOR NO KEY UPDATE
    LOOP
        -- a new statement: nobody folds it now, which would take the name away
        CONTINUE WHEN NOT EXISTS (
            SELECT FROM procrastinate_deps.workflow_states AS s
            JOIN procrastinate_deps.workflows AS w ON w.id = s.id
            WHERE s.id = each.id AND s.ended < s.total AND NOT w.holds_name);
        BEGIN
            PERFORM procrastinate_deps.take_workflow_name(each.id, each.name);
            repaired := repaired || each.id;
        EXCEPTION WHEN SQLSTATE 'PD010' THEN
            NULL; -- another live one has it: one of them must end first
        END;
    END LOOP;
    RETURN repaired;
END
$$;
