-- Just before jobs are inserted into workflows, held by enter_workflows or just made, or are revived: those of the workflows,
-- and of what they are nested in, that are unique have their name, which a fold may have taken from one that had finished.
-- While it has it no fold takes it away: who holds a row FOR SHARE keeps folds (FOR NO KEY UPDATE) off. Two of one name
-- can't both be live: that is refused. One that prune_jobs has begun to delete is as good as gone.
CREATE FUNCTION procrastinate_deps.hold_workflows(ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    missing bigint;
    unique_ones bigint[];
    unique_one record;
BEGIN
    SELECT min(i.id) INTO missing
    FROM unnest(ids) AS i (id)
    WHERE NOT EXISTS (SELECT FROM procrastinate_deps.workflows AS w WHERE w.id = i.id AND w.pruned_at IS NULL);
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
