-- Brings the counts of these workflows (NULL: of any that has news) up to date, at most max_workflows of them, and tells of
-- those that have ended. Returns whether to come again soon: there were more, or another session was at one of them.
-- No finish waits for this, nor this for anyone.
CREATE FUNCTION procrastinate_deps.fold_workflows(ids bigint[] DEFAULT NULL, max_workflows integer DEFAULT 100)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
    found bigint[];
    held bigint[];
    starts_at bigint;
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    IF ids IS NULL THEN
        -- Anywhere among them: from the first one on, as many as one fold takes that someone holds for long, or that change
        -- all the time, would keep it from the others.
        SELECT min(d.workflow_id) + floor(random() * (max(d.workflow_id) - min(d.workflow_id) + 1))::bigint
        INTO starts_at
        FROM procrastinate_deps.workflow_deltas AS d;
        found := procrastinate_deps.workflows_with_news(starts_at, NULL, max_workflows);
        found := found || procrastinate_deps.workflows_with_news(NULL, starts_at, max_workflows - cardinality(found));
    ELSE
        found := ARRAY(
            SELECT DISTINCT i.id
            FROM unnest(ids) AS i (id)
            WHERE EXISTS (SELECT FROM procrastinate_deps.workflow_deltas AS d WHERE d.workflow_id = i.id)
            LIMIT max_workflows);
    END IF;
    held := ARRAY(
        SELECT w.id FROM procrastinate_deps.workflows AS w
        WHERE w.id = ANY (found)
        ORDER BY w.id
        FOR NO KEY UPDATE SKIP LOCKED);
    IF cardinality(held) > 0 THEN
        PERFORM procrastinate_deps.fold_held(held);
    END IF;
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN cardinality(found) >= max_workflows OR EXISTS (
        SELECT FROM procrastinate_deps.workflows AS w WHERE w.id = ANY (found) AND w.id <> ALL (held));
END
$$;
