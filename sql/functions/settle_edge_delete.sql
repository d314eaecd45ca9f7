-- Settles the children of edges that are gone: removed by hand (the parent is still there), or with a parent that was
-- deleted live. A parent deleted after its end changes nothing. Fires once per DELETE, last, with all its edges.
-- The child is locked whatever its status: someone may just be making it blocked again and counting the edge that we
-- removed (one child stuck in 39 s of stress without that).
CREATE FUNCTION procrastinate_deps.settle_edge_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    children bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM gone) THEN
        RETURN NULL;
    END IF;
    PERFORM 1
    FROM procrastinate_deps.jobs
    WHERE id IN (SELECT g.parent_id FROM gone AS g JOIN procrastinate_deps.jobs AS c ON c.id = g.child_id)
    ORDER BY id
    FOR KEY SHARE;
    children := ARRAY(
        SELECT DISTINCT c.id
        FROM gone AS g
        JOIN procrastinate_deps.jobs AS c ON c.id = g.child_id
        LEFT JOIN procrastinate_deps.deleted_parents AS x
            ON x.child_id = g.child_id AND x.parent_id = g.parent_id
        WHERE x.was_live IS DISTINCT FROM false);
    IF cardinality(children) = 0 THEN
        RETURN NULL;
    END IF;
    -- a requirement dropped by hand: such a child no longer waits for the whole of a workflow that the parent is in
    IF EXISTS (SELECT FROM procrastinate_deps.workflow_dependents AS w WHERE w.child_id = ANY (children)) THEN
        DELETE FROM procrastinate_deps.workflow_dependents AS w
        USING gone AS g, procrastinate_deps.jobs AS p, procrastinate_deps.workflows AS f
        WHERE p.id = g.parent_id AND f.id = p.workflow_id AND w.child_id = g.child_id AND w.workflow_id = ANY (f.path);
    END IF;
    PERFORM procrastinate_deps.require_read_committed();
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;
    -- a new statement: how they stand now that they are held
    PERFORM procrastinate_deps.decide_anew(children);
    RETURN NULL;
END
$$;

CREATE TRIGGER settle_edge_delete AFTER DELETE ON procrastinate_deps.job_dependencies
REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT
-- our own functions delete only edges of children that they delete next
WHEN (coalesce(current_setting('procrastinate_deps_internal.settling', true), '')
        <> concat('procrastinate_deps', ' ', pg_trigger_depth()))
EXECUTE FUNCTION procrastinate_deps.settle_edge_delete();
