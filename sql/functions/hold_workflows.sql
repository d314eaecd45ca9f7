-- Just before jobs of existing workflows are inserted, or revived: the workflows stay, as the foreign key will demand; and
-- those of them, and of what they are nested in, that are unique have their name, which a fold may have taken from one
-- that had finished. While it has it no fold takes it away: who holds a row FOR SHARE keeps folds (FOR NO KEY UPDATE) off.
-- Two of one name can't both be live: that is refused.
CREATE FUNCTION procrastinate_deps.hold_workflows(ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    held bigint[] := ARRAY(
        SELECT w.id FROM procrastinate_deps.workflows AS w WHERE w.id = ANY (ids) ORDER BY w.id FOR KEY SHARE);
    missing bigint;
    unique_ones bigint[];
    unique_one record;
BEGIN
    SELECT min(i.id) INTO missing FROM unnest(ids) AS i (id) WHERE i.id <> ALL (held);
    IF missing IS NOT NULL THEN
        PERFORM procrastinate_deps.refuse_unknown_workflow(missing);
    END IF;
    unique_ones := ARRAY(
        SELECT w.id
        FROM procrastinate_deps.workflows AS w
        WHERE w.is_unique AND w.id IN (
            SELECT unnest(x.path) FROM procrastinate_deps.workflows AS x WHERE x.id = ANY (ids)));
    FOR unique_one IN
        SELECT w.id, w.name, w.holds_name
        FROM procrastinate_deps.workflows AS w
        WHERE w.id = ANY (unique_ones)
        ORDER BY w.id
    LOOP
        IF unique_one.holds_name THEN
            PERFORM 1 FROM procrastinate_deps.workflows AS w WHERE w.id = unique_one.id AND w.holds_name FOR SHARE;
            CONTINUE WHEN FOUND;
        END IF;
        PERFORM procrastinate_deps.take_workflow_name(unique_one.id, unique_one.name, unique_ones);
    END LOOP;
END
$$;
