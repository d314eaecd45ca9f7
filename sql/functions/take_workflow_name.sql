-- Gives a unique workflow its name, or refuses that because another one that is live has it. One that has ended may not be
-- folded yet: that is done first, after whoever may be doing it. Of two sessions that take a name at the same moment the
-- second waits for the first at the unique index, and looks again: that one may have ended in the same transaction.
-- growing: workflows that are about to have live jobs; none of them gives its name away because it has none yet.
CREATE FUNCTION procrastinate_deps.take_workflow_name(workflow bigint, name text, growing bigint[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    holder bigint;
BEGIN
    FOR look IN 1..2 LOOP
        BEGIN
            SELECT w.id INTO holder
            FROM procrastinate_deps.workflows AS w
            WHERE w.name = take_workflow_name.name AND w.holds_name
            FOR NO KEY UPDATE;
            IF FOUND AND holder <> ALL (growing) THEN
                IF current_setting('transaction_isolation') = 'read committed' THEN
                    PERFORM procrastinate_deps.fold_held(ARRAY[holder]);
                ELSIF NOT EXISTS (
                    SELECT FROM procrastinate_deps.workflow_states AS s WHERE s.id = holder AND s.ended < s.total)
                THEN
                    -- it may have grown since this snapshot was taken
                    PERFORM procrastinate_deps.require_read_committed();
                END IF;
            END IF;
            UPDATE procrastinate_deps.workflows AS w SET holds_name = true WHERE w.id = workflow;
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            CONTINUE WHEN look = 1;
            holder := (
                SELECT w.id FROM procrastinate_deps.workflows AS w
                WHERE w.name = take_workflow_name.name AND w.holds_name);
            RAISE EXCEPTION 'a unique workflow with the name % is live already: workflow %',
                quote_literal(name), coalesce(holder::text, '(ended meanwhile)')
            USING ERRCODE = 'PD010', DETAIL = jsonb_build_object('workflow_id', holder, 'name', name),
                HINT = 'Wait for its end, cancel it, or use another name.';
        END;
    END LOOP;
END
$$;
